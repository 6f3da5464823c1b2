"""Candidates: the chunks that each signal and the fusion find for each query, and the (query, text) pairs for a reranker.

Derived from committed files alone; searched again only if the vectors, the queries (their words too) or their number differ.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import orjson

from ...protocol.errors import EmbedfleetError, ModelError, RunDirectoryError, UsageError
from ...protocol.finished_run.candidate_state import candidate_state
from ...protocol.finished_run.candidates import FUSED, Row, candidates_schema, pair_id
from ...protocol.finished_run.done_run import DoneRun, open_done_run
from ...protocol.finished_run.points import Point
from ...protocol.index.fusion import fused_names, metadata_vectors
from ...protocol.index.queries import QueryVector, SparseQuery, drop_empty, with_terms
from ...protocol.index.shard_ranking import QueryRanking, ShardRanker
from ...protocol.run_directory.atomic_files import commit_bytes, commit_files, make_folder, sync_folder
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord, read_candidates
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.run_json import reasons_in
from ...protocol.run_directory.vector_rows import SparseVector
from ...protocol.statistics.histogram import LogHistogram
from ...protocol.text.query_pairs import join_pair
from ..index.shard import damaged_shard, open_shard
from .table_writer import TableWriter

PAIRS = "candidates 4"
"""Raise the number when the choice of candidates or the ids of pairs change: candidates of earlier versions are then redone."""


def find_candidates(
    root: Path, count: int, wanted: Collection[str] = (), named: Sequence[str] = ()
) -> CandidatesRecord:
    """Write candidates.parquet, pairs.jsonl and, last, candidates.json for the run in `root` and its queries.

    Each signal and the fusion give `count` chunks. `wanted` are the signals to fuse (empty: all), each kind of evidence once;
    `named` are fused even if another signal contains them. Every signal is ranked, fused or not. Candidates that were made of
    the same inputs are kept. UsageError if no query is usable, ModelError if the queries were encoded by other weights.
    """
    run, queries = open_done_run(root), open_done_run(RunLayout(root).queries)
    if run.spec.index != "edge" and not run.layout.published.exists():  # a spool may have one even so
        raise UsageError(f"{root}: made with --index none, so there is nothing to search; run with --index edge")
    if not queries.rows:
        raise UsageError(f"{queries.spec.source}: no query in it can be used; {reasons_in(queries.layout)}")
    if not run.rows:
        raise UsageError(f"{root}: no chunk in it can be searched; {reasons_in(run.layout)}")
    _check_weights(run, queries)
    wanted, named = _plainest(run, wanted, named)
    made_of = _made_of(run, queries, count, wanted, named)
    before = _standing(run.layout)
    if before is not None and before.made_of == made_of:
        return before
    return _Search(run, queries, count, wanted, named).write(made_of)


class _Search:
    """Searches all queries, one after another, over one open shard."""

    def __init__(
        self, run: DoneRun, queries: DoneRun, count: int, wanted: Collection[str], named: Sequence[str]
    ) -> None:
        self._run, self._queries, self._count = run, queries, count
        self._wanted, self._named = wanted or run.names, named
        by_vector = {one.vector: one for one in queries.spec.passes}
        self._extended = {
            one.metadata_fallback
            for one in run.spec.passes
            if one.metadata_fallback is not None and one.kind != "metadata" and by_vector[one.vector].kind == one.kind
        }
        """Sparse vectors with a metadata fallback: the query is extended by its own words there."""
        self._of_metadata = metadata_vectors(run.layout, run.spec)
        self._pairs = self._without = 0
        self._left_out: dict[str, int] = {}
        self._latency = LogHistogram()
        self._pairs_digest = hashlib.sha256()

    def write(self, made_of: str) -> CandidatesRecord:
        layout, start = self._run.layout, time.monotonic()
        make_folder(layout.rerank)
        layout.candidates_record.unlink(missing_ok=True)
        sync_folder(layout.rerank)
        shard = open_shard(layout)
        try:
            ranker = ShardRanker(shard, self._run.spec)
            commit_files((layout.candidates, layout.pairs), lambda partials: self._fill(ranker, *partials))
        finally:
            shard.close()
        record = CandidatesRecord(
            made_of=made_of,
            candidates=self._count,
            signals=self._run.names,
            fused=tuple(self._together(self._run.names)),
            queries=self._queries.rows,
            without=self._without,
            pairs=self._pairs,
            seconds=round(time.monotonic() - start, 3),
            query_seconds=self._latency.summary(6),
            pairs_sha256=self._pairs_digest.hexdigest(),
            state=candidate_state(self._run, self._queries),
            left_out=self._left_out,
        )
        commit_bytes(layout.candidates_record, pretty_json(record))
        return record

    def _fill(self, ranker: ShardRanker, table: Path, pairs: Path) -> None:
        with TableWriter(table, candidates_schema(self._run.names)) as rows, pairs.open("wb", buffering=1 << 20) as out:
            for query in self._queries.points():
                start = time.monotonic()
                found = self._find(ranker, query)
                self._latency.add(time.monotonic() - start)
                self._without += not found or found[0][1] is None
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

    def _find(self, ranker: ShardRanker, query: Point) -> list[tuple[Row, str | None]]:
        """The query's rows of the table, the fused ones first and with their texts; other rows have None."""
        signals = drop_empty(dict(self._vectors(query)))
        for name in self._run.names:
            if name not in signals:
                self._left_out[name] = self._left_out.get(name, 0) + 1
        if not signals:
            return []
        together = self._together(signals)
        try:
            ranked = ranker.rank(signals, together, self._count)
            fused = ranked.fused[: self._count]
            scores = ranker.scores(signals, ranked, ranked.points)
            texts = ranker.payloads(ranked, [row for row, _ in fused])
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # the engine raises nothing more exact; its panics are no Exception
            name = query.payload["id"]
            raise EmbedfleetError(
                f"query {name!r}: the Edge engine refused it ({error}); {damaged_shard(self._run.layout)}"
            ) from error
        rows = _rows(query, ranked, scores)
        found: list[tuple[Row, str | None]] = []
        for rank, (row, score) in enumerate(fused, 1):
            found.append((rows.pop(row) | {f"{FUSED}.score": score, f"{FUSED}.rank": rank}, texts[row]["text"]))
        return found + [(rows[row], None) for row in sorted(rows)]

    def _together(self, signals: Iterable[str]) -> list[str]:
        """Those of `signals` that are fused."""
        wanted = [name for name in signals if name in self._wanted]
        return fused_names(self._run.spec, wanted, self._of_metadata, self._named)

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


def _rows(query: Point, ranked: QueryRanking, scores: Mapping[int, Mapping[str, float]]) -> dict[int, Row]:
    """By row: the columns of each chunk that a signal found, with its ids, scores and ranks."""
    who = {"query": query.payload["id"], "query_row": query.payload["row"]}
    rows = {
        row: who | {"id": one.id, "row": row} | {f"{name}.score": score for name, score in scores[row].items()}
        for row, one in ranked.points.items()
    }
    for name, ranking in ranked.rankings.items():
        for rank, row in enumerate(ranking, 1):
            rows[row][f"{name}.rank"] = rank
    return rows


def _check_weights(run: DoneRun, queries: DoneRun) -> None:
    for one, asked in zip(run.spec.passes, queries.spec.passes, strict=True):
        ours, theirs = (_pass(side, name.outputs[0].vector) for side, name in ((run, one), (queries, asked)))
        if not ours.weight_hashes & theirs.weight_hashes:
            raise ModelError(
                f"model {asked.model}: the queries were encoded by other weights than the corpus "
                f"({(theirs.weights or '')[:12]}… and {(ours.weights or '')[:12]}…); --restart starts over"
            )


def _pass(run: DoneRun, vector: str) -> PassRecord:
    return read_pass(run.layout, vector) or PassRecord()


def _plainest(run: DoneRun, wanted: Collection[str], named: Sequence[str]) -> tuple[Collection[str], Sequence[str]]:
    """The normal form of the choice of signals, so that an equivalent choice does not repeat the search."""
    if not run.spec.ensembles and len(metadata_vectors(run.layout, run.spec)) < 2:  # no signal contains another
        named = ()
    return ((), ()) if not named and set(wanted) == set(run.names) else (wanted, named)


def _made_of(run: DoneRun, queries: DoneRun, count: int, wanted: Collection[str], named: Sequence[str]) -> str:
    head = f"{PAIRS} {count}".encode()
    if wanted:
        head += orjson.dumps([sorted(wanted), sorted(named)])
    return candidate_state(run, queries, head)


def _standing(layout: RunLayout) -> CandidatesRecord | None:
    try:
        record = read_candidates(layout)
    except RunDirectoryError:
        return None  # derived: searched again
    return record if layout.candidates.exists() and layout.pairs.exists() else None
