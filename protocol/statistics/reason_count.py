"""ReasonCount: how often each reason was given, in bounded memory."""

from __future__ import annotations

from collections import Counter

MOST_REASONS = 1_000
REASON_CHARACTERS = 160
OTHERS = "other reasons"


class ReasonCount:
    """Reasons that name a row are different each time: beyond MOST_REASONS, new ones are counted together."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def total(self) -> int:
        """Of all reasons together."""
        return self._counts.total()

    def add(self, reason: str) -> None:
        short = reason[:REASON_CHARACTERS]
        self._counts[short if short in self._counts or len(self._counts) < MOST_REASONS else OTHERS] += 1

    def first(self, count: int) -> list[tuple[str, int]]:
        """The most frequent ones, those that were counted together among them."""
        return self._counts.most_common(count)
