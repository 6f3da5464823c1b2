"""The final ranking: candidates by their reranker's scores, then, in fused order, those without a score."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.candidates import (
    FUSED,
    HEAD,
    RERANK,
    Row,
    pair_id,
    queries_in,
    ranking_schema,
)
from ...protocol.finished_run.done_run import open_done_run
from ...protocol.run_directory.atomic_files import commit_files, make_folder
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.candidates import CandidatesRecord, read_candidates
from ...protocol.run_directory.records.quarantine import QuarantineLine
from ...protocol.run_directory.removal import remove_report
from ...protocol.run_directory.segment_stream import stream_batches
from ..formats.export_record import add_files, claim
from ..formats.exported_file import describe
from ..run_directory.manifest import rejected, write_sections
from ..run_directory.rerank_run import FallbackCount, describe_rerank, keep_rerank
from .table_writer import TableWriter

_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
"""Writes a float32 score in its shortest exact form: if it were rounded, small scores would become equal."""


class _Score(NamedTuple):
    """The result of one pair in the run of the pairs."""

    pair: str
    score: float | None
    error: str | None


def rank_candidates(root: Path, top_k: int, reranker: str | None) -> None:
    """Write rerank/ranking.parquet, export/rerank.jsonl and the manifest's sections for the run in `root`.

    `reranker` is the vector that the pairs' run wrote; without one the fused order is final. If the order changes, the
    evaluation is removed.
    """
    run = open_done_run(root)
    layout = run.layout
    found = read_candidates(layout)
    if found is None:
        raise RunDirectoryError(f"{layout.rerank}: has no candidates; run the same command again")
    make_folder(layout.export)
    claim(run, (layout.reranked.name,))
    count = FallbackCount()
    scores = _Scores(RunLayout(layout.scores), reranker) if reranker is not None else None

    lines_written = 0

    def write(partials: Any) -> None:
        nonlocal lines_written
        table, lines = partials
        columns = candidates_columns(found)
        with TableWriter(table, ranking_schema(found.signals)) as rows, lines.open("wb", buffering=1 << 20) as out:
            for group in queries_in(layout.candidates, columns):
                for row in _ranked(group, scores, count):
                    rows.add(row)
                    if row.get("rank") is not None and row["rank"] <= top_k:
                        out.write(orjson.dumps(_line(row, found.signals), option=_OPTIONS))
                        lines_written += 1
        if not _is_same(table, layout.ranking):  # an evaluation belongs to one ranking
            remove_report(layout)

    commit_files((layout.ranking, layout.reranked), write)
    keep_rerank(layout, describe_rerank(layout, found, reranker, count) if reranker is not None else None)
    write_sections(layout, run.spec)
    add_files(run, (describe(layout.reranked, "rerank", lines_written),), found.made_of)


def _is_same(written: Path, standing: Path) -> bool:
    """Whether two files hold the same bytes."""
    return standing.exists() and filecmp.cmp(written, standing, shallow=False)


def candidates_columns(found: CandidatesRecord) -> list[str]:
    """Names of the columns of candidates.parquet."""
    return [*HEAD, *(f"{name}.{part}" for name in (*found.signals, FUSED) for part in ("score", "rank"))]


class _Scores:
    """The scores of the pairs, taken in the order in which the pairs were written."""

    def __init__(self, layout: RunLayout, reranker: str) -> None:
        self._rows = _scores(layout, reranker)
        self._refusals = rejected(layout)
        self._next: _Score | None = next(self._rows, None)
        self._refused: QuarantineLine | None = next(self._refusals, None)

    def take(self, pair: str) -> _Score:
        """The score of the next pair. A pair that is no row of the run was refused at its intake."""
        if self._next is None or self._next.pair != pair:
            return _Score(pair, None, f"the pair was refused: {self._refusal(pair)}")
        taken, self._next = self._next, next(self._rows, None)
        return taken

    def _refusal(self, pair: str) -> str:
        """The reason for a refusal. Refusals are stored in the order of the pairs, without an id if the line is not JSON."""
        found = self._refused
        if found is None or found.get("id", pair) != pair:
            return "no reason is on file"
        self._refused = next(self._refusals, None)
        return found["reason"]


def _scores(layout: RunLayout, reranker: str) -> Iterator[_Score]:
    for segment in segments_in(layout.vector_folder(reranker)):
        for batch in stream_batches(layout.vector_segment(reranker, segment), ("id", "score", "error")):
            yield from map(_Score, *(batch.column(name).to_pylist() for name in ("id", "score", "error")))


def _ranked(group: list[Row], scores: _Scores | None, count: FallbackCount) -> Iterator[Row]:
    """A query's rows with final ranks: scored rows by score, then the other fused rows, then rows that were not fused."""
    fused = [row for row in group if row[f"{FUSED}.rank"] is not None]
    for row in fused if scores is not None else ():
        assert scores is not None, "the loop runs with scores only"
        found = scores.take(pair_id(row["query"], row["id"]))
        row[f"{RERANK}.score"] = found.score if found.error is None else None
        row["fallback"] = found.error
        count.add(found.error)
    scored = [row for row in fused if row.get(f"{RERANK}.score") is not None]
    scored.sort(key=lambda row: (-row[f"{RERANK}.score"], row[f"{FUSED}.rank"]))
    for place, row in enumerate(scored, 1):
        row[f"{RERANK}.rank"] = place
    left = [row for row in fused if row.get(f"{RERANK}.score") is None]
    for place, row in enumerate([*scored, *left], 1):
        yield row | {"rank": place}
    yield from (row for row in group if row[f"{FUSED}.rank"] is None)


def _line(row: Row, signals: tuple[str, ...]) -> Row:
    names = (*signals, FUSED, RERANK)
    scores = {name: row.get(f"{name}.score") for name in names}
    line = {
        "query": row["query"],
        "id": row["id"],
        "row": row["row"],
        "rank": row["rank"],
        "scores": {
            name: np.float32(score) if score is not None and name != FUSED else score for name, score in scores.items()
        },
        "ranks": {name: row.get(f"{name}.rank") for name in names},
        "fallback": row.get("fallback") is not None,
    }
    return line | ({"reason": row["fallback"]} if line["fallback"] else {})
