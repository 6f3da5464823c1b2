"""ReasonCount: count reasons in bounded memory."""

from __future__ import annotations

from collections import Counter

MOST_REASONS = 1_000
REASON_CHARACTERS = 160
OTHERS = "other reasons"


class ReasonCount:
    """Counts by reason. Beyond MOST_REASONS, new reasons are counted together: a reason may name its row."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def total(self) -> int:
        """The count of all reasons together."""
        return self._counts.total()

    def add(self, reason: str) -> None:
        short = reason[:REASON_CHARACTERS]
        self._counts[short if short in self._counts or len(self._counts) < MOST_REASONS else OTHERS] += 1

    def first(self, count: int) -> list[tuple[str, int]]:
        """The `count` most frequent reasons with their counts; OTHERS may be one."""
        return self._counts.most_common(count)
