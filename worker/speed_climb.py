"""Whether micro-batches of a size are faster than those of the size before."""

from __future__ import annotations

FASTER = 1.03
"""How many times as many tokens a second a larger size must compute to be worth its memory."""
TRIAL = 8
"""Micro-batches that the speed of a size is measured with."""
WHOLE = 0.75
"""Part of the budget that a micro-batch must have used: the last one of a batch says little."""


class SpeedClimb:
    """Compares sizes by their speed. `before` is the size before the last step; 0 if there was none."""

    def __init__(self) -> None:
        self.before = 0
        self._best = 0.0
        self._clear()

    def computed(self, budget: int, tokens: int, seconds: float) -> bool | None:
        """Report a micro-batch. Whether the size is faster than the one before; None: not known yet."""
        if tokens < WHOLE * budget or seconds <= 0:
            return None
        self._count, self._tokens, self._seconds = self._count + 1, self._tokens + tokens, self._seconds + seconds
        if self._count < TRIAL:
            return None
        speed = self._tokens / self._seconds
        self._clear()
        faster = speed > FASTER * self._best
        self._best = max(self._best, speed)
        return faster

    def step(self, size: int) -> None:
        """Go on from this size to a larger one."""
        self.before = size
        self._clear()

    def _clear(self) -> None:
        self._count, self._tokens, self._seconds = 0, 0, 0.0
