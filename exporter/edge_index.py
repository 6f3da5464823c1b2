"""The embedded Qdrant Edge shard: searchable as soon as the run is published, and derived from the committed files alone.

A segment is published when every pass has committed it: its points, under ids that derive from the chunks' ids, with all
named vectors and the payload. Publishing twice writes the same points. `published.json` says which segments are in.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from ..protocol.durable import commit_bytes
from ..protocol.layout import RunLayout
from ..protocol.point_ids import point_id
from ..protocol.segments import dense_vectors
from ..protocol.spec import SPARSE_KINDS, RunSpec

POINTS_AT_ONCE = 512
LOCK_SECONDS = 30.0
"""How long a search in another process may hold the shard before publishing fails."""


class EdgeIndex:
    """The shard of one run. Opened at the first segment, since its dimensions must be known."""

    def __init__(self, layout: RunLayout, spec: RunSpec) -> None:
        self._layout, self._spec = layout, spec
        self._shard: Any = None
        self.published = (
            _read_published(layout.published) if (layout.edge / "edge_config.json").exists() else set[int]()
        )

    def publish(self, segment: int, dims: dict[str, int]) -> int:
        """Put the segment's rows into the shard and note it; the number of points. Nothing to do if it is in."""
        if segment in self.published:
            return 0
        if self._shard is None:
            self._shard = self._open(dims)
        written = 0
        for points in self._points(segment):
            self._shard.update(_engine().UpdateOperation.upsert_points(points))
            written += len(points)
        self._shard.flush()
        self.published.add(segment)
        commit_bytes(self._layout.published, msgspec.json.encode({"segments": sorted(self.published)}))
        return written

    def count(self) -> int:
        """Points in the shard."""
        return int(self._shard.info().points_count) if self._shard is not None else 0

    def close(self) -> None:
        """Flush and unlock the shard."""
        if self._shard is not None:
            self._shard.flush()
            self._shard.close()
            self._shard = None

    def _open(self, dims: dict[str, int]) -> Any:
        edge = _engine()
        if self.published:
            return _patiently(lambda: edge.EdgeShard.load(str(self._layout.edge)))
        if self._layout.edge.exists():
            shutil.rmtree(self._layout.edge)  # points of a run that never got to its first segment
        self._layout.edge.mkdir()
        dense = {
            name: edge.EdgeVectorParams(size=dim, distance=edge.Distance.Cosine) for name, dim in dims.items() if dim
        }
        sparse = {
            one.vector: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)
            for one in self._spec.passes
            if one.kind in SPARSE_KINDS
        }
        config = edge.EdgeConfig(vectors=dense or None, sparse_vectors=sparse or None)
        return edge.EdgeShard.create(str(self._layout.edge), config)

    def _points(self, segment: int) -> Iterator[list[Any]]:
        edge = _engine()
        chunks = _read(self._layout.chunk_segment(segment))
        tables = {one.vector: _read(self._layout.vector_segment(one.vector, segment)) for one in self._spec.passes}
        dense = {name: dense_vectors(table) for name, table in tables.items() if "vector" in table.column_names}
        failed = {name: table.column("error").is_valid().to_numpy() for name, table in tables.items()}
        for start in range(0, chunks.num_rows, POINTS_AT_ONCE):
            part = chunks.slice(start, POINTS_AT_ONCE)
            sparse = {
                name: tables[name].slice(start, POINTS_AT_ONCE).select(["indices", "values"]).to_pydict()
                for name in tables.keys() - dense.keys()
            }
            points: list[Any] = []
            for offset, record in enumerate(part.to_pylist()):
                at = start + offset
                vectors: dict[str, Any] = {
                    name: array[at].tolist() for name, array in dense.items() if not failed[name][at]
                }
                for name, lists in sparse.items():
                    if not failed[name][at] and lists["indices"][offset]:
                        vectors[name] = edge.SparseVector(lists["indices"][offset], lists["values"][offset])
                points.append(edge.Point(point_id(record["id"]), vectors, _payload(record)))
            yield points


def _payload(record: dict[str, Any]) -> dict[str, Any]:
    metadata = msgspec.json.decode(record["metadata"]) if record["metadata"] else {}
    return {"id": record["id"], "row": record["row"], "text": record["text"], "metadata": metadata}


def _read(path: Path) -> Any:
    with pq.ParquetFile(path) as file:
        return file.read()


def _engine() -> Any:
    import qdrant_edge

    return qdrant_edge


def _read_published(path: Path) -> set[int]:
    try:
        return set(msgspec.json.decode(path.read_bytes(), type=dict[str, list[int]])["segments"])
    except (OSError, KeyError, msgspec.MsgspecError):
        return set()  # derived: publishing again writes the same points


def _patiently(load: Any) -> Any:
    """Open the shard, waiting for a search that has it open; the engine offers no way to wait for its lock."""
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return load()
        except Exception as error:
            if "WouldBlock" not in str(error) or time.monotonic() > give_up:
                raise
        time.sleep(0.1)
