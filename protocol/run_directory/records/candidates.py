"""`rerank/candidates.json`: the record of the queries' candidates."""

from __future__ import annotations

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout


class CandidatesRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `candidates.json`. `made_of` is a digest of the vectors, the queries and the number of candidates."""

    made_of: str
    candidates: int
    """The most candidates of each signal and of the fusion."""
    signals: tuple[str, ...]
    queries: int
    without: int
    """Queries for which no fused signal found a chunk."""
    pairs: int
    seconds: float
    fused: tuple[str, ...] = ()
    """The fused signals, for a query that has vectors for all of them (see `fusion.py`)."""
    query_seconds: dict[str, float] = {}
    """`p50`, `p95` and others: seconds for one query's candidates of all signals and their fusion."""
    pairs_sha256: str = ""
    """Hexadecimal SHA-256 of `pairs.jsonl`; empty in records of earlier versions."""
    state: str = ""
    """The digest of the vectors and the queries alone (`candidate_state.py`); empty in records of earlier versions."""
    left_out: dict[str, int] = {}
    """For each signal, the queries without a vector for it, or with an empty one."""


def read_candidates(layout: RunLayout) -> CandidatesRecord | None:
    """The record; None without candidates. RunDirectoryError if the file is damaged."""
    return read_json(layout.candidates_record, CandidatesRecord)
