"""Check the files in `rerank/`: every page of the tables, every line of the pairs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.candidates import candidates_schema, ranking_schema
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.candidates import CandidatesRecord, read_candidates
from ...protocol.run_directory.records.sections import read_rerank_run
from ...protocol.run_directory.segment_stream import stream_batches
from ..run_directory.files import AGAIN
from .stale_ranking import stale_ranking


class _Pair(msgspec.Struct, frozen=True):
    """One line of the pairs."""

    id: str
    text: str


def needs_queries(layout: RunLayout) -> bool:
    """Whether the run must have queries, since it has candidates."""
    return layout.candidates_record.exists()


def needs_scores(layout: RunLayout) -> bool:
    """Whether the run must have scores: its record names a reranker that had pairs. `rerank_problems` reports damage."""
    try:
        section = read_rerank_run(layout)
    except RunDirectoryError:
        return False
    return section is not None and section.pairs > 0


def rerank_problems(layout: RunLayout) -> Iterator[str]:
    """Problems of candidates, pairs and ranking. Missing candidates are one if files exist that are made of them."""
    ranked = layout.reranked.exists() or layout.rerank_record.exists() or layout.ranking.exists()
    try:
        read_rerank_run(layout)
    except RunDirectoryError as error:
        yield str(error)
    try:
        record = read_candidates(layout)
    except RunDirectoryError as error:
        yield str(error)
        return
    if record is None:
        if ranked:
            yield f"{layout.candidates_record}: is gone; {AGAIN}"
        return
    yield from _if_there(layout.candidates, _table_problems(layout.candidates, candidates_schema(record.signals)))
    yield from _if_there(layout.pairs, _pair_problems(layout.pairs, record))
    yield from stale_ranking(layout)
    if ranked:
        yield from _if_there(layout.ranking, _table_problems(layout.ranking, ranking_schema(record.signals)))


def _if_there(path: Path, problems: Iterator[str]) -> Iterator[str]:
    if not path.exists():
        yield f"{path}: is gone; {AGAIN}"
    else:
        yield from problems


def _table_problems(path: Path, schema: Any) -> Iterator[str]:
    try:
        for _batch in stream_batches(path, schema.names):
            pass  # reading verifies the checksum of each page
    except RunDirectoryError as error:
        yield str(error)


def _pair_problems(path: Path, record: CandidatesRecord) -> Iterator[str]:
    decoder, state, count = msgspec.json.Decoder(_Pair), hashlib.sha256(), 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                count += 1
                state.update(line)
                decoder.decode(line)
    except (OSError, ValueError) as error:
        yield f"{path}: no pair in line {count} ({error}); delete it and {AGAIN}"
        return
    if count != record.pairs:
        yield f"{path}: has {count} pairs, and candidates.json says {record.pairs}; delete it and {AGAIN}"
    elif record.pairs_sha256 and state.hexdigest() != record.pairs_sha256:
        yield f"{path}: its content is not what was written (digest differs); delete it and {AGAIN}"
