"""How long the stages of a search took."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager


class Timings:
    """Seconds by stage, in the order in which the stages ended."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds to a stage."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + max(0.0, seconds)

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Measure this block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began)

    def take(self) -> dict[str, float]:
        """Milliseconds by stage, to a tenth. The next query starts from zero."""
        found = {stage: round(1000 * seconds, 1) for stage, seconds in self._seconds.items()}
        self._seconds.clear()
        return found
