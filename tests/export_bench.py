"""A run directory written in this process: ExportRuntime as the exporter's loop drives it, over a small corpus."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.parquet as pq
from embedfleet.coordinator.intake.loader import ChunkLoader, SegmentLimits
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.exporter.reports import Report
from embedfleet.exporter.run_directory.owned_directory import RunDirectory
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.export import Closed, CloseRunMessage, FailedRows, FillRows, Rows, SourceRead
from embedfleet.protocol.wire.work import RowError

DIM, ROWS = 8, 4
"""Of a dense vector; rows of a full segment."""
SECONDS = 15.0
"""For a report; two busy cores may take their time."""

DENSE = PassSpec(vector="dense-a", kind="dense", model=f"fake:{DIM}")
OTHER = PassSpec(vector="dense-b", kind="dense", model=f"fake:{DIM}")
BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")
HEADS = PassSpec(vector="heads-m3", kind="bge-m3", model="bge-m3")

T = TypeVar("T", bound=Report)


def fingerprint(dim: int = DIM, **changed: Any) -> Fingerprint:
    values: dict[str, Any] = {
        "model": f"fake:{dim}" if dim else "bm25",
        "revision": "1",
        "weights": "",
        "dtype": "float32",
        "max_tokens": 512,
        "prompt": "",
        "pooling": "none",
        "dim": dim,
        "normalized": bool(dim),
        "versions": {},
    }
    return Fingerprint(**(values | changed))


def vectors_of(segment: int, number: int = 0, rows: int = ROWS) -> np.ndarray:
    """Unit vectors, different for each segment of each pass, the same every time."""
    found = np.random.default_rng([number, segment]).normal(size=(rows, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def sparse_of(positions: Sequence[int]) -> dict[str, np.ndarray]:
    """Row r has the indices 0 to r, each with weight 1."""
    sizes = [position + 1 for position in positions]
    return {
        "offsets": np.cumsum([0, *sizes]).astype(np.int64),
        "indices": np.concatenate([np.arange(size) for size in sizes]).astype(np.uint32),
        "values": np.ones(sum(sizes), np.float32),
    }


def tokens_of(positions: Sequence[int]) -> dict[str, np.ndarray]:
    """Row r has r + 1 token vectors, all of ones."""
    sizes = [position + 1 for position in positions]
    return {"offsets": np.cumsum([0, *sizes]).astype(np.int64), "tokens": np.ones((sum(sizes), DIM), np.float16)}


def flip(path: Path) -> None:
    """Change one bit of the ids of a segment file: the rest of so small a file is mostly its footer."""
    column = pq.read_metadata(path).row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 0x10
    path.write_bytes(data)


class Session:
    """One exporter's hold of the directory, with the models of all passes known."""

    def __init__(self, spec: RunSpec, root: Path) -> None:
        self.spec, self.layout = spec, RunLayout(root)
        self.runtime = ExportRuntime(RunDirectory(root, spec, restart=False), "run-1")
        self.heard: list[Report] = []
        """Taken from the runtime and asked for by nobody yet."""
        self._over = False
        if not self.layout.intake.exists():
            self.spool()
        for number, one in enumerate(spec.passes):
            more = {"token_dim": DIM} if one.kind == "bge-m3" else {}
            self.runtime.begin_pass(number, fingerprint(0 if one.kind in ("bm25", "metadata") else DIM, **more))

    def spool(self) -> None:
        """What the coordinator's intake does."""
        ChunkLoader(self.spec, self.layout, SegmentLimits(rows=ROWS), lambda _segment: None, lambda: False).load()

    def rows(
        self, segment: int, positions: Sequence[int] = range(ROWS), *, number: int = 0, errors: Sequence[RowError] = ()
    ) -> None:
        """A batch's results, as a worker of the pass would give them."""
        one = self.spec.passes[number]
        forms: dict[str, dict[str, np.ndarray]] = {
            "dense": {"vector": vectors_of(segment, number)[list(positions)]},
            "sparse": sparse_of(positions),
            "multivector": tokens_of(positions),
        }
        found = {
            "positions": np.array(positions, np.int32),
            "n_tokens": np.full(len(positions), 3, np.int32),
            "truncated": np.zeros(len(positions), np.uint8),
        }
        for output in one.outputs:
            prefix = f"{output.form}/" if len(one.outputs) > 1 else ""
            found |= {prefix + name: array for name, array in forms[output.form].items()}
        headers, frames = arrays.pack(found)
        self.runtime.add(Rows(number, segment, ROWS, headers, tuple(errors)), list(frames))

    def give_up(self, segment: int, positions: Iterable[int], reason: str, *, number: int = 0) -> None:
        self.runtime.give_up(FailedRows(number, segment, ROWS, tuple(positions), reason))

    def fill(self, segment: int, reason: str, *, number: int = 0) -> None:
        self.runtime.fill(FillRows(number, segment, ROWS, reason))

    def source_read(self, segments: int) -> None:
        self.runtime.source_read(SourceRead(segments))

    def hear(self, kind: type[T]) -> T:
        """The next report of this kind, as soon as it comes."""
        give_up = time.monotonic() + SECONDS
        while True:
            for report in self.heard:
                if isinstance(report, kind):
                    self.heard.remove(report)
                    return report
            ready, *_ = select.select([self.runtime.wake_fd], [], [], max(0.0, give_up - time.monotonic()))
            assert ready, f"no {kind.__name__}, but {self.heard}"
            self.heard += self.runtime.take()

    def wait(self) -> None:
        """Until what stood was looked at, and what was handed in is committed and published."""
        path = self.runtime._path
        threads = [path._scrubs, path._commits, *([path.publisher._thread] if path.publisher is not None else [])]
        for thread in threads:
            thread.submit(lambda: None).result()

    def close(self, status: str = "done", **stats: Any) -> Closed:
        """End the run; every report that it made is in `heard` then."""
        try:
            return self.runtime.close(CloseRunMessage(status, "", {"passes": [], **stats}))
        finally:
            self.heard += self.runtime.take()
            self.free()

    def free(self) -> None:
        """Give back what the process has of it; no-op after `close`."""
        if not self._over:
            self._over = True
            self.runtime._path.stop(done=True)
            self.runtime._events.close()
            self.runtime._reports.close()


class Bench:
    """A corpus, in segments of ROWS rows, and the sessions of its run."""

    def __init__(
        self,
        folder: Path,
        *passes: PassSpec,
        segments: int = 2,
        index: Any = "none",
        ensembles: Sequence[EnsembleSpec] = (),
        metadata: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.root = folder / "run"
        self.layout = RunLayout(self.root)
        self.sessions: list[Session] = []
        records = [{"id": f"c{row}", "text": f"text of row {row}"} for row in range(segments * ROWS)]
        for record, more in zip(records, metadata, strict=False):
            record["metadata"] = more
        source = folder / "corpus.jsonl"
        source.write_text("".join(json.dumps(record) + "\n" for record in records))
        self.spec = RunSpec(source=str(source), passes=passes or (DENSE,), index=index, ensembles=tuple(ensembles))

    def begin(self) -> Session:
        self.sessions.append(Session(self.spec, self.root))
        return self.sessions[-1]

    def finish(self, status: str = "done") -> Closed:
        """A session that computes whatever is missing."""
        session = self.begin()
        segments = len(list(self.layout.chunks.glob("*.parquet")))
        for number, done in enumerate(session.runtime.committed):
            for segment in set(range(segments)) - set(done):
                session.rows(segment, number=number)
        session.source_read(segments)
        return session.close(status)

    def standing(self, vector: str = "dense-a") -> list[str]:
        return sorted(path.name for path in self.layout.vector_folder(vector).glob("*.parquet"))
