"""One result of a search."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...protocol.finished_run.payload import Metadata


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `score` orders the hits: the fused score, or that of the only signal fused."""

    id: str
    score: float
    scores: dict[str, float]
    """By vector name. A signal is absent where the chunk has no vector for it, or shares no term with the query."""
    text: str
    metadata: Metadata
    row: int
    fused: bool = True
    """Whether `score` is fused from several signals; if not, it is that of the only signal."""
    rerank: float | None = None
    """The reranker's score, which then orders the hits; None without a reranker, or if it could not score the chunk."""
    ranks: dict[str, int] = field(default_factory=dict[str, int])
    """By vector name, from 1; equal scores are ranked by row. A signal is absent if the chunk is not among its candidates.
    The fused score is the sum of 1 / (1 + rank) over the signals that are fused."""
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    """By vector name, why a signal is left out of this search: its model could not encode the query."""
