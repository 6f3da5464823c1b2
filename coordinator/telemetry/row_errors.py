"""RowErrors: rows of a pass without a usable result, of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol.wire.work import RowError


@dataclass(slots=True)
class RowErrors:
    """How many so far, the reason of the last batch's first, and how many of them have been told."""

    rows: int = 0
    reason: str = ""
    told: int = 0

    def add(self, errors: Sequence[RowError]) -> bool:
        """Count those of a batch; whether there are any."""
        if errors:
            self.rows += len(errors)
            self.reason = errors[0].reason
        return bool(errors)
