"""Small synthetic run directories, written with the functions of `protocol/run_directory/tables.py` alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from embedfleet.protocol.finished_run.published import encode_published, segment_digest
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import SegmentLimits
from embedfleet.protocol.run_directory.records.sections import CrossEncoderRerankRun, SparseInferenceRun
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA, digest, vector_schema, with_info
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec, Storage
from embedfleet.protocol.vectors.ensembles import combine
from embedfleet.protocol.vectors.storage import measure_ranges, pack, unpack

DENSE, SPARSE, MULTI = "dense-fake", "sparse-bm25", "multivector-fake"
HALF, CONCAT = "dense-half", "ensemble-concat"
FINGERPRINT = "f" * 64


def rerank_run(pairs: int) -> CrossEncoderRerankRun:
    """The section of a ranking in which every pair has a score."""
    counts = {"candidates": 10, "queries": 1, "queries_without_candidates": 0, "pairs": pairs, "scored": pairs}
    figures = {"seconds": 0.5, "batches": 1, "batch_rows": {}, "batch_seconds": {}, "mitigations": 0, "peak_bytes": 1}
    where = {"model": "fake:8", "device": "cpu:0", "dtype": "float32", "placement": "host memory, float32"}
    return CrossEncoderRerankRun(**counts, fallbacks=0, reasons={}, coverage=1.0, **figures, **where)


def sparse_run(vector: str, live: int) -> SparseInferenceRun:
    """The section of a sparse vector in which every row is the model's."""
    rows = {"live": live, "from_metadata": 0, "without": 0, "unusable": 0}
    where = {"device": "cpu:0", "dtype": "float32", "placement": "host memory, float32"}
    return SparseInferenceRun(vector=vector, kind="bm25", model="bm25", **rows, **where, batch_seconds={})


def dense_of(rows: int, dim: int = 4) -> np.ndarray:
    """Unit vectors, the same every time."""
    vectors = np.random.default_rng(7).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sparse_of(row: int) -> tuple[list[int], list[float]]:
    """Row 1 is empty; the others have the index 5 in common."""
    return ([], []) if row == 1 else ([5, 100 + row], [0.5, 1.0])


def multi_of(row: int, dim: int = 4) -> np.ndarray:
    """float16 (tokens, dim): one to three tokens a row."""
    return np.random.default_rng(100 + row).normal(size=(1 + row % 3, dim)).astype(np.float16)


@dataclass
class RunFiles:
    """One run: `sizes` rows in its segments, a dense and a sparse pass, each with its rows in quarantine."""

    root: Path
    sizes: Sequence[int] = (3, 2)
    quarantined: Sequence[int] = ()
    sparse_quarantined: Sequence[int] = ()
    stood_in: Sequence[int] = ()
    """Rows whose sparse weights are marked as the metadata's."""
    dim: int = 4
    index: str = "edge"
    multivector: bool = False
    """A third pass, of multivectors, which has the dense one's rows in quarantine."""
    storage: Storage = "float32"
    """Of the dense vectors."""
    ensemble: bool = False
    """A last pass, dense with half the dimensions, which has the dense one's rows in quarantine; and the concat of both."""
    layout: RunLayout = field(init=False)

    def __post_init__(self) -> None:
        self.layout = RunLayout(self.root)

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    def first(self, segment: int) -> int:
        return sum(self.sizes[:segment])

    def span(self, segment: int) -> range:
        return range(self.first(segment), self.first(segment) + self.sizes[segment])

    @property
    def spec(self) -> RunSpec:
        passes = (
            PassSpec(vector=DENSE, kind="dense", model=f"fake:{self.dim}", storage=self.storage),
            PassSpec(vector=SPARSE, kind="bm25", model="bm25"),
        )
        if self.multivector:
            passes += (PassSpec(vector=MULTI, kind="multivector", model=f"fake:{self.dim}"),)
        if self.ensemble:
            passes += (PassSpec(vector=HALF, kind="dense", model=f"fake:{self.dim // 2}", storage=self.storage),)
        ensembles = (self.concat,) if self.ensemble else ()
        return RunSpec(source="/corpus.jsonl", passes=passes, index=self.index, ensembles=ensembles)

    @property
    def concat(self) -> EnsembleSpec:
        return EnsembleSpec(vector=CONCAT, method="concat", members=(DENSE, HALF), weights=(2.0, 1.0))

    def write(self) -> RunFiles:
        """Everything but the shard, done."""
        layout = self.layout
        for folder in (layout.chunks, layout.intake_folder, layout.passes, *map(layout.vector_folder, (DENSE, SPARSE))):
            folder.mkdir(parents=True)
        self.layout.spec.write_bytes(msgspec.json.encode(self.spec))
        self.layout.source.write_text("[]")
        self.layout.limits.write_bytes(msgspec.json.encode(SegmentLimits()))
        for segment in range(len(self.sizes)):
            self.chunk_segment(segment)
            self.vector_segment(DENSE, segment, self.dense_table(segment))
            self.vector_segment(SPARSE, segment, self.sparse_table(segment))
            if self.multivector:
                self.layout.vector_folder(MULTI).mkdir(exist_ok=True)
                self.vector_segment(MULTI, segment, self.multi_table(segment))
            if self.ensemble:
                for name, table in ((HALF, self.dense_table(segment, HALF)), (CONCAT, self.concat_table(segment))):
                    self.layout.vector_folder(name).mkdir(exist_ok=True)
                    self.vector_segment(name, segment, table)
        about = {"fingerprint": FINGERPRINT, "model": "fake", "dtype": "float32", "normalized": True}
        self.layout.pass_file(DENSE).write_text(json.dumps({**about, "dim": self.dim, "output_dim": self.dim}))
        self.layout.pass_file(SPARSE).write_text(json.dumps({**about, "dim": 0}))
        if self.multivector:
            self.layout.pass_file(MULTI).write_text(json.dumps({**about, "dim": self.dim, "output_dim": self.dim}))
        rejected = {"file": "corpus.jsonl", "record": 9, "reason": "no text"}
        self.layout.rejected_segment(0).write_text(json.dumps(rejected) + "\n")
        intake = {"segments": len(self.sizes), "rows": self.rows, "rejected": 1, "duplicates": 0, "complete": True}
        self.layout.intake.write_text(json.dumps(intake))
        self.write_manifest()
        return self

    def write_manifest(self) -> None:
        bad = {DENSE: len(self.quarantined), SPARSE: len(self.sparse_quarantined)}
        if self.multivector:
            bad[MULTI] = len(self.quarantined)
        failed = len({*self.quarantined, *self.sparse_quarantined})
        counts = {"chunks": self.rows + 1, "committed": self.rows - failed, "quarantined": failed + 1, "rejected": 1}
        passes = [{"vector": name, "rows": self.rows, "quarantined": count} for name, count in bad.items()]
        manifest = {"status": "done", "counts": {**counts, "skipped_duplicates": 0}, "passes": passes}
        self.layout.manifest.write_text(json.dumps(manifest))

    def chunk_segment(self, segment: int, ids: Sequence[str] | None = None, **changed: Sequence[object]) -> None:
        """Write a segment; `changed` are other values of its columns."""
        span = self.span(segment)
        columns = {
            "row": list(span),
            "id": list(ids or [f"c{row}" for row in span]),
            "text": [f"text {row}" for row in span],
            "metadata": [json.dumps({"n": row}) for row in span],
            "n_bytes": [len(f"text {row}") for row in span],
        }
        info = ChunkSegmentInfo(
            segment=segment,
            first_row=span.start,
            rows=len(span),
            rejected=1 if segment == 0 else 0,
            duplicates=0,
            cursor=Cursor(records=span.stop),
        )
        table = with_info(pa.table({**columns, **changed}, CHUNK_SCHEMA), info)
        pq.write_table(table, self.layout.chunk_segment(segment), write_page_checksum=True)

    def common(self, segment: int, quarantined: Sequence[int]) -> dict[str, list[object]]:
        span = self.span(segment)
        bad = [row in quarantined for row in span]
        return {
            "row": list(span),
            "id": [f"c{row}" for row in span],
            "n_tokens": [None if one else 2 for one in bad],
            "truncated": [None if one else False for one in bad],
            "error": ["kills the model" if one else None for one in bad],
        }

    def dense_table(self, segment: int, name: str = DENSE) -> pa.Table:
        vectors = self.dense_vectors(name)
        ranges = measure_ranges(vectors) if self.storage == "int8" else None
        schema = vector_schema("dense", vectors.shape[1], self.storage, ranges)
        return self._dense_table(segment, pack(vectors, self.storage, ranges), schema)

    def concat_table(self, segment: int) -> pa.Table:
        kept: list[np.ndarray] = []
        for name in (DENSE, HALF):
            vectors = self.dense_vectors(name)
            ranges = measure_ranges(vectors)
            kept.append(unpack(pack(vectors, self.storage, ranges), self.storage, ranges))
        vectors = combine(self.concat, kept)
        return self._dense_table(segment, vectors, vector_schema("dense", vectors.shape[1]))

    def dense_vectors(self, name: str) -> np.ndarray:
        return dense_of(self.rows, self.dim if name == DENSE else self.dim // 2)

    def _dense_table(self, segment: int, packed: np.ndarray, schema: pa.Schema) -> pa.Table:
        column = [None if row in self.quarantined else packed[row].tolist() for row in self.span(segment)]
        return pa.table({**self.common(segment, self.quarantined), "vector": column}, schema)

    def sparse_table(self, segment: int) -> pa.Table:
        pairs = [(None, None) if row in self.sparse_quarantined else sparse_of(row) for row in self.span(segment)]
        lists = {"indices": [one for one, _ in pairs], "values": [one for _, one in pairs]}
        common = self.common(segment, self.sparse_quarantined) | {
            "stood_in": [row in self.stood_in for row in self.span(segment)]
        }
        return pa.table({**common, **lists}, vector_schema("sparse", 0))

    def multi_table(self, segment: int) -> pa.Table:
        column = [None if row in self.quarantined else multi_of(row, self.dim).tolist() for row in self.span(segment)]
        return pa.table(
            {**self.common(segment, self.quarantined), "vector": column}, vector_schema("multivector", self.dim)
        )

    def vector_segment(self, vector: str, segment: int, table: pa.Table, **info: object) -> None:
        """Write `table` as a segment; `info` overrides what its footer says."""
        truth = {
            "vector": vector,
            "segment": segment,
            "first_row": self.first(segment),
            "rows": table.num_rows,
            "quarantined": pc.count(table.column("error")).as_py() if "error" in table.column_names else 0,
            "tokens": 0,
            "fingerprint": FINGERPRINT,
            "digest": info.get("digest") or digest(table),
        }
        written = with_info(table, VectorSegmentInfo(**{**truth, **info}))
        pq.write_table(written, self.layout.vector_segment(vector, segment), write_page_checksum=True)

    def publish(self) -> None:
        """The Edge shard with every row, and `published.json`."""
        import qdrant_edge as edge
        from embedfleet.protocol.finished_run.point_ids import point_id

        config = edge.EdgeConfig(
            vectors={DENSE: edge.EdgeVectorParams(size=self.dim, distance=edge.Distance.Dot)},
            sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
        )
        self.layout.edge.mkdir()
        shard = edge.EdgeShard.create(str(self.layout.edge), config)
        dense = dense_of(self.rows, self.dim)
        points = []
        for row in range(self.rows):
            payload = {"id": f"c{row}", "row": row, "text": f"text {row}", "metadata": {"n": row}}
            indices, values = sparse_of(row)
            vectors: dict[str, object] = {SPARSE: edge.SparseVector(indices=indices, values=values)}
            if row not in self.quarantined:
                vectors[DENSE] = dense[row].tolist()
            points.append(edge.Point(point_id(f"c{row}"), vectors, payload))
        shard.update(edge.UpdateOperation.upsert_points(points))
        shard.flush()
        shard.close()
        names = [one.vector for one in self.spec.outputs]
        digests = {segment: segment_digest(self.layout, names, segment) for segment in range(len(self.sizes))}
        self.layout.published.write_bytes(encode_published(digests))
