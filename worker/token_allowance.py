"""How many tokens a micro-batch may have now, for all streams, and what follows where memory did not suffice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .adaptive_batch import AdaptiveBatchController
from .device.memory import DeviceMemory


class Verdict(Enum):
    """What follows for rows that did not fit."""

    RETRY = auto()
    TOO_LONG = auto()
    """The batch has failed."""
    STARVED = auto()
    """Others took the device's memory, or it is in pieces: the process must end."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows that the device had no memory for."""

    rows: int
    tokens: int
    """With padding."""
    beside: int
    """Tokens of the largest micro-batch that was open besides; 0 if it was alone."""
    once_fit: bool
    """Whether memory for as many tokens has sufficed before; unlike for float32, which needs more."""


class TokenAllowance:
    """`tokens` of a micro-batch. Call it from one thread at a time."""

    def __init__(self, controller: AdaptiveBatchController, memory: DeviceMemory) -> None:
        self._controller, self._memory = controller, memory
        self._longest = 0
        """Tokens of the longest computed text. A shorter one fits too, unless other processes took the memory."""

    @property
    def tokens(self) -> int:
        """The budget of the next micro-batch."""
        return self._controller.tokens

    def succeeded(self, longest: int, tokens: int, seconds: float) -> None:
        """Report a computed micro-batch, whose longest text has so many tokens, and the time that it took."""
        self._longest = max(self._longest, longest)
        pressure = self._memory.pressure()
        self._controller.succeeded(pressure.share, tokens, seconds)
        if pressure.crowded and self._controller.crowded():
            self._memory.give_back()

    def refused(self, refusal: Refusal) -> Verdict:
        """Shrink the budget. A row is to blame only if it did not fit alone, with nothing else open."""
        smaller = self._controller.out_of_memory(max(refusal.tokens, refusal.beside))
        if refusal.beside or (smaller and refusal.rows > 1):
            return Verdict.RETRY
        fitted = refusal.rows == 1 and refusal.once_fit
        if fitted and (refusal.tokens <= self._longest or self._memory.pressure().crowded):
            return Verdict.STARVED
        return Verdict.TOO_LONG
