"""Judged queries: which judgements an evaluation can use, and notes on those that it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from os import PathLike

from ...protocol.errors import UsageError
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.run_json import reasons_in
from ..output.formatting import pluralize
from ..run_directory.files import read_table
from .qrels import Qrels, read_qrels


def judged_queries(layout: RunLayout, path: str | PathLike[str], signals: Sequence[str]) -> tuple[Qrels, list[str]]:
    """The usable judgements in the file at a path or an address, and notes on those left out.

    Usable are judgements of the run's queries and chunks, for queries with a relevant chunk that at least one of the
    `signals` could encode. A note counts the queries that only some signals could encode. UsageError if no query is left.
    """
    queries = RunLayout(layout.queries)
    without = _without_vectors(queries, signals)
    judged, notes = _usable(layout, read_qrels(path), path, set.intersection(*without.values()))
    for name, ids in without.items():
        if count := len(ids & judged.keys()):
            notes.append(
                f"{name} could not encode {count:,} of the {len(judged):,} judged queries; they count all the same"
            )
    return judged, notes


def _without_vectors(queries: RunLayout, signals: Sequence[str]) -> dict[str, set[str]]:
    """By signal, the ids of the queries that it could not encode."""
    without: dict[str, set[str]] = {name: set() for name in signals}
    for name, ids in without.items():
        for segment in segments_in(queries.vector_folder(name)):
            table = read_table(queries.vector_segment(name, segment), ("id", "error"))
            ids.update(table.filter(table.column("error").is_valid()).column("id").to_pylist())
    return without


def _usable(layout: RunLayout, qrels: Qrels, path: str | PathLike[str], unencoded: Set[str]) -> tuple[Qrels, list[str]]:
    read = set(_ids(RunLayout(layout.queries)))
    asked = read - unencoded
    wanted = {chunk for chunks in qrels.values() for chunk in chunks}
    there = {chunk for chunk in _ids(layout) if chunk in wanted}
    known = {query: chunks for query, chunks in qrels.items() if query in asked}
    missing = sum(chunk not in there for chunks in known.values() for chunk in chunks)
    kept = {
        query: {chunk: score for chunk, score in chunks.items() if chunk in there} for query, chunks in known.items()
    }
    judged = {query: chunks for query, chunks in kept.items() if any(score > 0 for score in chunks.values())}
    failed = len(qrels.keys() & unencoded)
    if not judged:
        reasons = f"; {failed:,} could not be encoded, {reasons_in(RunLayout(layout.queries))}" if failed else ""
        raise UsageError(
            f"--qrels {path}: no judgement of a relevant chunk is of this corpus and these queries ({len(known):,} of its "
            f"{len(qrels):,} queries and {len(there):,} of its {len(wanted):,} chunks are known{reasons})"
        )
    strangers, asked_only, pointless = len(qrels.keys() - read), len(asked - qrels.keys()), len(known) - len(judged)
    return judged, list(
        _notes(
            (strangers, "judged query is", "judged queries are", "not among the queries that could be read"),
            (failed, "judged query", "judged queries", "could not be encoded"),
            (missing, "judgement is", "judgements are", "of chunks that are not in the corpus"),
            (pointless, "judged query has", "judged queries have", "no relevant chunk in the corpus"),
            (asked_only, "query has", "queries have", "no judgement"),
        )
    )


def _notes(*left_out: tuple[int, str, str, str]) -> Iterator[str]:
    for count, singular, plural, why in left_out:
        if count:
            yield f"{pluralize(count, singular, plural)} {why}, and left out"


def _ids(layout: RunLayout) -> Iterator[str]:
    for segment in segments_in(layout.chunks):
        yield from read_table(layout.chunk_segment(segment), ("id",)).column("id").to_pylist()
