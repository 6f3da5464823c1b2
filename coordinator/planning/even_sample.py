"""An even sample of a stream whose length is not known: each item has the same chance, whatever order the stream has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
S = TypeVar("S")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def spread(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of each number, evenly spread over 64 bits: SplitMix64 (Steele, Lea, Flood 2014)."""
    state = (numbers + np.uint64(1)) * _GOLDEN
    state ^= state >> np.uint64(30)
    state *= _MIX_1
    state ^= state >> np.uint64(27)
    state *= _MIX_2
    return state ^ (state >> np.uint64(31))


class EvenSample(Generic[T]):
    """Keeps the items whose number's hash is small. Whenever there are twice `least`, or more than `most_bytes`, the half with
    the larger hashes goes. Two items are equally likely to be kept, and so are two pairs: a period in the stream does no harm.
    """

    def __init__(self, least: int, most_bytes: int) -> None:
        self.seen = 0
        """Items of the stream so far."""
        self.items: list[T] = []
        self._least, self._most_bytes = max(least, 1), most_bytes
        self._halvings = 0
        self._held = 0
        self._hashes: list[int] = []
        self._sizes: list[int] = []

    @property
    def whole(self) -> bool:
        """Whether every item was kept."""
        return self._halvings == 0

    def take(self, items: Sequence[S], keep: Callable[[S], tuple[T, int]]) -> None:
        """Take the next items of the stream. `keep` returns what to keep of an item, and its bytes in memory."""
        hashes = spread(np.arange(self.seen, self.seen + len(items), dtype=np.uint64))
        self.seen += len(items)
        for place in np.flatnonzero(hashes <= self._limit()).tolist():
            if hashes[place] > self._limit():  # lowered since
                continue
            kept, size = keep(items[place])
            self.items.append(kept)
            self._hashes.append(int(hashes[place]))
            self._sizes.append(size)
            self._held += size
            while len(self.items) >= 2 * self._least or (self._held > self._most_bytes and len(self.items) > 1):
                self._halve()

    def _limit(self) -> np.uint64:
        return np.uint64((1 << (64 - min(self._halvings, 63))) - 1)

    def _halve(self) -> None:
        self._halvings += 1
        limit = int(self._limit())
        kept = [place for place, one in enumerate(self._hashes) if one <= limit]
        self.items = [self.items[place] for place in kept]
        self._hashes = [self._hashes[place] for place in kept]
        self._sizes = [self._sizes[place] for place in kept]
        self._held = sum(self._sizes)
