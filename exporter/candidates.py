"""Candidates: what each signal and the fusion find for each query, and the (query, text) pairs for a reranker.

Derived from committed files alone; found again only where the vectors, the queries (their words too) or their number differ.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import orjson

from ..protocol.candidates import FUSED, CandidatesRecord, candidates_schema, pair_id
from ..protocol.done_run import DoneRun, open_done_run
from ..protocol.durable import commit_bytes, commit_files, make_folder
from ..protocol.engine_queries import (
    QueryVector,
    SparseQuery,
    asking,
    best,
    few,
    fused_request,
    nearest_request,
    payloads,
    signal_scores,
    with_terms,
)
from ..protocol.errors import EmbedfleetError, ModelError, UsageError
from ..protocol.fusion import fused_names, metadata_vectors
from ..protocol.histogram import LogHistogram
from ..protocol.layout import RunLayout
from ..protocol.pairs import join_pair
from ..protocol.points import Point
from ..protocol.run_json import reasons_in
from ..protocol.segment_stream import stream_batches
from ..protocol.segments import VectorSegmentInfo, read_info
from ..protocol.vector_rows import SparseVector
from .edge_index import damaged_shard, load_shard
from .table_writer import TableWriter

Row = dict[str, Any]

PAIRS = "candidates 3"
"""Another number where others are chosen, or pairs get other ids: what an earlier version found is then found again."""


def find_candidates(root: Path, count: int) -> CandidatesRecord:
    """Write candidates.parquet, pairs.jsonl and, last, candidates.json for the run in `root` and its queries.

    `count` of each signal and of the fusion. What stands and is made of the same is kept. UsageError where no query can
    be used, ModelError where the queries were encoded by other weights.
    """
    run, queries = open_done_run(root), open_done_run(RunLayout(root).queries)
    if run.spec.index != "edge":
        raise UsageError(f"{root}: made with --index none, so there is nothing to search; run with --index edge")
    if not queries.rows:
        raise UsageError(f"{queries.spec.source}: no query in it can be used; {reasons_in(queries.layout)}")
    if not run.rows:
        raise UsageError(f"{root}: no chunk in it can be searched; {reasons_in(run.layout)}")
    _check_weights(run, queries)
    made_of = _made_of(run, queries, count)
    before = _standing(run.layout)
    if before is not None and before.made_of == made_of:
        return before
    return _Search(run, queries, count).write(made_of)


class _Search:
    """All queries, one after another, over one open shard."""

    def __init__(self, run: DoneRun, queries: DoneRun, count: int) -> None:
        self._run, self._queries, self._count = run, queries, count
        by_vector = {one.vector: one for one in queries.spec.passes}
        self._extended = {
            one.stood_in
            for one in run.spec.passes
            if one.stood_in is not None and one.kind != "metadata" and by_vector[one.vector].kind == one.kind
        }
        """Sparse vectors in which weights of the metadata may stand in: the query carries its words there too."""
        self._of_metadata = metadata_vectors(run.layout, run.spec)
        self._pairs = self._without = 0
        self._latency = LogHistogram()
        self._pairs_digest = hashlib.sha256()

    def write(self, made_of: str) -> CandidatesRecord:
        layout, start = self._run.layout, time.monotonic()
        make_folder(layout.rerank)
        layout.candidates_record.unlink(missing_ok=True)
        shard = load_shard(layout)
        try:
            commit_files((layout.candidates, layout.pairs), lambda partials: self._fill(shard, *partials))
        finally:
            shard.close()
        record = CandidatesRecord(
            made_of=made_of,
            candidates=self._count,
            signals=self._run.names,
            fused=tuple(fused_names(self._run.spec, self._run.names, self._of_metadata)),
            queries=self._queries.rows,
            without=self._without,
            pairs=self._pairs,
            seconds=round(time.monotonic() - start, 3),
            query_seconds=self._latency.summary(6),
            pairs_sha256=self._pairs_digest.hexdigest(),
        )
        commit_bytes(layout.candidates_record, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        return record

    def _fill(self, shard: Any, table: Path, pairs: Path) -> None:
        with TableWriter(table, candidates_schema(self._run.names)) as rows, pairs.open("wb", buffering=1 << 20) as out:
            for query in self._queries.points():
                start = time.monotonic()
                found = self._find(shard, query)
                self._latency.add(time.monotonic() - start)
                self._without += not found
                for row, text in found:
                    rows.add(row)
                    if text is not None:
                        self._write_pair(out, query, row["id"], text)

    def _write_pair(self, out: BinaryIO, query: Point, chunk: str, text: str) -> None:
        pair = {"id": pair_id(query.payload["id"], chunk), "text": join_pair(query.payload["text"], text)}
        line = orjson.dumps(pair, option=orjson.OPT_APPEND_NEWLINE)
        out.write(line)
        self._pairs_digest.update(line)
        self._pairs += 1

    def _find(self, shard: Any, query: Point) -> list[tuple[Row, str | None]]:
        """The query's rows of the table, the fused ones first and with their texts."""
        import qdrant_edge as edge

        signals = asking(dict(self._vectors(query)))
        if not signals:
            return []
        requests = [nearest_request(name, vector, self._count, few()) for name, vector in signals.items()]
        together = fused_names(self._run.spec, signals, self._of_metadata)
        requests.append(fused_request({name: signals[name] for name in together}, self._count, few()))
        try:
            *own, fused = (best(some, self._count) for some in shard.query_batch(edge.QueryBatchRequest(requests)))
            points = {str(point.id): point for some in (*own, fused) for point in some}
            scores = signal_scores(shard, signals, [point.id for point in points.values()])
            texts = payloads(shard, fused)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # the engine raises nothing more exact; its panics are no Exception
            name = query.payload["id"]
            raise EmbedfleetError(
                f"query {name!r}: the Edge engine refused it ({error}); {damaged_shard(self._run.layout)}"
            ) from error
        rows = {
            key: _row(query, point.payload) | {f"{name}.score": score for name, score in scores[key].items()}
            for key, point in points.items()
        }
        for name, some in zip(signals, own, strict=True):
            for place, point in enumerate(some, 1):
                rows[str(point.id)] |= {f"{name}.rank": place}
        found: list[tuple[Row, str | None]] = []
        for place, point in enumerate(fused, 1):
            row = rows.pop(str(point.id)) | {f"{FUSED}.score": point.score, f"{FUSED}.rank": place}
            found.append((row, texts[str(point.id)]["text"]))
        return found + [(row, None) for row in sorted(rows.values(), key=lambda row: row["row"])]

    def _vectors(self, query: Point) -> Iterator[tuple[str, QueryVector]]:
        for name in self._run.names:
            vector = query.vectors.get(name)
            sparse = (
                SparseQuery(vector.indices.tolist(), vector.values.tolist())
                if isinstance(vector, SparseVector)
                else None
            )
            if name in self._extended:
                yield name, with_terms(sparse or SparseQuery([], []), query.payload["text"])
            elif sparse is not None:
                yield name, sparse
            elif vector is not None and not isinstance(vector, SparseVector):
                yield name, vector.astype("float32", copy=False)


def _row(query: Point, payload: Mapping[str, Any]) -> Row:
    who = {"query": query.payload["id"], "query_row": query.payload["row"]}
    return {**who, "id": payload["id"], "row": payload["row"]}


def _check_weights(run: DoneRun, queries: DoneRun) -> None:
    for one, asked in zip(run.spec.passes, queries.spec.passes, strict=True):
        ours, theirs = (_weights(side, name.outputs[0].vector) for side, name in ((run, one), (queries, asked)))
        if ours != theirs:
            raise ModelError(
                f"model {asked.model}: the queries were encoded by other weights than the corpus "
                f"({theirs[:12]}… and {ours[:12]}…); --restart starts over"
            )


def _weights(run: DoneRun, vector: str) -> str:
    return orjson.loads(run.layout.pass_file(vector).read_bytes()).get("weights", "")


def _made_of(run: DoneRun, queries: DoneRun, count: int) -> str:
    state = hashlib.blake2b(f"{PAIRS} {count}".encode(), digest_size=16)
    for side in (run, queries):
        for name in side.names:
            for segment in side.segments:
                info = read_info(side.layout.vector_segment(name, segment), VectorSegmentInfo)
                state.update(f"{name} {info.fingerprint} {info.digest}\n".encode())
    for segment in queries.segments:  # texts too: several have one vector, and a pair has the text
        for batch in stream_batches(queries.layout.chunk_segment(segment), ("id", "text")):
            columns = (batch.column(name).to_pylist() for name in ("id", "text"))
            for one in zip(*columns, strict=True):
                state.update(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE))
    return state.hexdigest()


def _standing(layout: RunLayout) -> CandidatesRecord | None:
    try:
        record = msgspec.json.decode(layout.candidates_record.read_bytes(), type=CandidatesRecord)
    except (OSError, msgspec.MsgspecError):
        return None  # derived: found again
    return record if layout.candidates.exists() and layout.pairs.exists() else None
