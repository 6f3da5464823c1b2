"""RowErrors: rows of a pass without a usable result, of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol.wire.work import RowError


@dataclass(slots=True)
class RowErrors:
    """Their number, the first reason of the last batch, and how many have been reported."""

    rows: int = 0
    reason: str = ""
    reported: int = 0

    def add(self, errors: Sequence[RowError]) -> bool:
        """Count the errors of a batch. Return whether there are any."""
        if errors:
            self.rows += len(errors)
            self.reason = errors[0].reason
        return bool(errors)
