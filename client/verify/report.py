"""VerifyReport: the result of verifying a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ...protocol.run_directory.truncation import Truncation
from ..run_directory.running import Running


@dataclass(slots=True)
class VectorCount:
    """One pass, counted from its segments. `dim` is None for sparse vectors."""

    segments: int = 0
    rows: int = 0
    quarantined: int = 0
    dim: int | None = None
    truncated: int | None = None
    """Rows whose text was truncated at the model's limit; None for kinds without a limit."""
    tokens: int = 0
    """Tokens that were computed."""
    tokens_cut: int | None = None
    """Tokens that truncation removed; None if they were not counted."""

    @property
    def truncation(self) -> Truncation:
        return Truncation(self.rows, self.truncated or 0, self.tokens, self.tokens_cut)


@dataclass(slots=True)
class VerifyReport:
    """Counts, errors of the run (`problems`), and further information (`notes`)."""

    root: Path
    segments: int = 0
    chunks: int = 0
    rejected: int = 0
    duplicates: int = 0
    vectors: dict[str, VectorCount] = field(default_factory=dict[str, VectorCount])
    points: int | None = None
    """Points in the Edge shard; None if they could not be counted."""
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    running: Running | None = None
    """The process that works on the run now. Then missing segments are no problem."""
    interrupted: str = ""
    """One line on an interrupted run: how far it came, and how to resume it; else empty."""

    @property
    def ok(self) -> bool:
        return not self.problems
