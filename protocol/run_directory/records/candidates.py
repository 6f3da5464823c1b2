"""`rerank/candidates.json`: what the candidates of the queries were made of."""

from __future__ import annotations

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout


class CandidatesRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`candidates.json`. `made_of` is a digest of the vectors, of the queries and of how many were asked for."""

    made_of: str
    candidates: int
    """Of each signal, and of the fusion, at most."""
    signals: tuple[str, ...]
    queries: int
    without: int
    """Queries for which no signal that is fused found a chunk."""
    pairs: int
    seconds: float
    fused: tuple[str, ...] = ()
    """The signals that are fused for a query that has them all (see `fusion.py`)."""
    query_seconds: dict[str, float] = {}
    """`p50`, `p95` and others: one query's candidates of all signals and their fusion."""
    pairs_sha256: str = ""
    """Of `pairs.jsonl`, hexadecimal; empty in records of earlier versions."""
    state: str = ""
    """The digest of the vectors and the queries alone (`candidate_state.py`); empty in records of earlier versions."""
    left_out: dict[str, int] = {}
    """By signal, for how many queries it had no vector, or one without a word that its model knows."""


def read_candidates(layout: RunLayout) -> CandidatesRecord | None:
    """The record; None where no candidates stand. RunDirectoryError where the file is damaged."""
    return read_json(layout.candidates_record, CandidatesRecord)
