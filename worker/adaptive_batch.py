"""AdaptiveBatchController: adapts the token budget of micro-batches to the memory of the device.

Out of memory halves the budget at once. It grows by a quarter after PATIENCE successes, but stays below the size that failed
until FORGET successes have passed. Similar to TCP's congestion window (Jacobson 1988), but slower: a failure is expensive.

A budget that `climbs` is first doubled while that makes the computation faster. It then stays at the last size that did.
"""

from __future__ import annotations

from collections.abc import Callable

from .encoders.base import TokenBudget
from .speed_climb import SpeedClimb

FLOOR = 64
"""Tokens; below this only the row itself can be at fault."""
PATIENCE = 32
"""Successes before the budget grows."""
FORGET = 1_024
"""Successes before the size that failed is tried again."""
CALM = 4
"""Successes between two reductions under memory pressure, so that the first one can take effect."""
FULL = 0.85
"""Share of the device's memory in use above which the budget does not grow."""


class AdaptiveBatchController:
    """`tokens` is the current budget. Calls `on_change(reason, before, after)` for every change."""

    def __init__(self, budget: TokenBudget, on_change: Callable[[str, int, int], None]) -> None:
        self.tokens = budget.initial
        self._ceiling = budget.ceiling
        self._failed_at = 0
        self._successes = 0
        self._since_failure = 0
        self._since_shrink = CALM
        self._on_change = on_change
        self._climb = SpeedClimb() if budget.climbs else None

    def crowded(self) -> bool:
        """Report that other processes take the device's memory: shrink by a quarter. True if the budget changed."""
        self._climb = None
        if self._since_shrink < CALM:
            return False
        self._since_shrink = self._successes = 0
        less = max(FLOOR, self.tokens - self.tokens // 4)
        if less == self.tokens:
            return False
        self._set("memory_pressure", less)
        return True

    def succeeded(self, memory_share: float = 0.0, tokens: int = 0, seconds: float = 0.0) -> None:
        """Report a computed micro-batch, the share of the device's memory in use (0 to 1), and the time that it took."""
        if self._climb is not None:
            self._climb_on(self._climb, memory_share, tokens, seconds)
            return
        self._successes += 1
        self._since_shrink += 1
        self._since_failure += 1
        if self._failed_at and self._since_failure >= FORGET:
            self._failed_at = 0
        if self._successes < PATIENCE or memory_share > FULL:
            return
        self._successes = 0
        limit = min(self._ceiling, int(self._failed_at * 0.9)) if self._failed_at else self._ceiling
        grown = min(self.tokens + self.tokens // 4, limit)
        if grown > self.tokens:
            self._set("grow", grown)

    def _climb_on(self, climb: SpeedClimb, memory_share: float, tokens: int, seconds: float) -> None:
        faster = climb.computed(self.tokens, tokens, seconds)
        if faster is None:
            return
        higher = min(2 * self.tokens, self._ceiling)
        if faster and higher > self.tokens and memory_share <= FULL:
            climb.step(self.tokens)
            self._set("grow", higher)
            return
        self._climb, self._ceiling = None, self.tokens if faster else climb.before or self.tokens
        if self._ceiling < self.tokens:
            self._set("no_faster", self._ceiling)

    def out_of_memory(self, tried: int) -> bool:
        """Report that a micro-batch of `tried` tokens did not fit. True if a smaller one is worth trying."""
        self._climb = None
        self._failed_at = tried
        self._successes = self._since_failure = 0
        halved = max(FLOOR, min(self.tokens, tried) // 2)
        if halved < self.tokens:
            self._set("out_of_memory", halved)
        return tried > FLOOR

    def _set(self, reason: str, tokens: int) -> None:
        before, self.tokens = self.tokens, tokens
        self._on_change(reason, before, tokens)
