"""An exact map from short words to numbers, for whole arrays of words at once."""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt

from .flat import Int64

UInt64 = npt.NDArray[np.uint64]

ABSENT = -1
_FIRST_SLOTS = 1 << 16
_FULL = 0.5
"""Share of the slots in use above which their number is doubled."""


class WordTable:
    """Open addressing with linear probing. A key is two uint64 (`low`, `high`): up to 16 bytes, without a hash that could
    collide. `low` is never 0 in a key; with it, `find` returns ABSENT.

    The multipliers of the hash are random, so that no corpus can be written to fall into one slot.
    """

    def __init__(self) -> None:
        self._multipliers = [np.uint64(secrets.randbits(64) | 1) for _ in range(2)]
        self.count = 0
        self._allocate(_FIRST_SLOTS)

    @property
    def n_bytes(self) -> int:
        return self._low.nbytes + self._high.nbytes + self._values.nbytes

    def find(self, low: UInt64, high: UInt64) -> Int64:
        """The value of each key, ABSENT if it has none."""
        slots = self._slots(low, high)
        held = self._low.take(slots)
        values = self._values.take(slots)
        other = np.flatnonzero((held != low) | (self._high.take(slots) != high))
        if not len(other):
            return values
        values[other] = ABSENT
        other = other[held[other] != 0]
        slots = slots[other]
        while len(other):  # each round looks at the next slot, until the key or an empty slot is met
            slots = (slots + 1) & (len(self._low) - 1)
            held = self._low[slots]
            same = (held == low[other]) & (self._high[slots] == high[other])
            values[other[same]] = self._values[slots[same]]
            on = ~same & (held != 0)
            other, slots = other[on], slots[on]
        return values

    def enter(self, low: UInt64, high: UInt64) -> tuple[Int64, Int64]:
        """Enter keys that `find` did not find; a key may be there several times.

        Returns the slot of each key, and for each distinct key the index of one of its occurrences. Their values must be set
        by `fill` before the next call.
        """
        while (self.count + len(low)) > _FULL * len(self._low):
            self._grow()
        return self._enter(low, high)

    def fill(self, slots: Int64, values: Int64) -> None:
        """Set the values of slots that `enter` returned."""
        self._values[slots] = values

    def values(self, slots: Int64) -> Int64:
        """The values in these slots."""
        return self._values.take(slots)

    def _allocate(self, slots: int) -> None:
        self._low, self._high = np.zeros(slots, np.uint64), np.zeros(slots, np.uint64)
        self._values = np.full(slots, ABSENT, np.int64)
        self._shift = np.uint64(65 - slots.bit_length())

    def _slots(self, low: UInt64, high: UInt64) -> Int64:
        mixed = low * self._multipliers[0]
        mixed += high * self._multipliers[1]
        mixed ^= mixed >> np.uint64(32)
        mixed *= self._multipliers[0]
        mixed >>= self._shift
        return mixed.view(np.int64)

    def _enter(self, low: UInt64, high: UInt64) -> tuple[Int64, Int64]:
        slots, active = self._slots(low, high), np.arange(len(low))
        entered: list[Int64] = []
        while len(active):
            at = slots[active]
            empty = self._low[at] == 0
            claiming, claimed = active[empty], at[empty]
            self._values[claimed] = claiming  # of several that claim a slot, the last one gets it
            won = self._values[claimed] == claiming
            claiming, claimed = claiming[won], claimed[won]
            self._low[claimed], self._high[claimed] = low[claiming], high[claiming]
            entered.append(claiming)
            other = (self._low[at] != low[active]) | (self._high[at] != high[active])
            active = active[other]
            slots[active] = (slots[active] + 1) & (len(self._low) - 1)
        distinct = np.concatenate(entered) if entered else np.empty(0, np.int64)
        self.count += len(distinct)
        return slots, distinct

    def _grow(self) -> None:
        used = np.flatnonzero(self._low)
        low, high, values = self._low[used], self._high[used], self._values[used]
        self.count = 0
        self._allocate(2 * len(self._low))
        slots, _ = self._enter(low, high)
        self.fill(slots, values)
