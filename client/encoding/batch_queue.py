"""BatchQueue: the batches of some texts, until each row has a result or a reason. Pure: no process, no clock.

Who is to blame for a batch that failed or a worker that died is decided as in a run (docs/reliability.md): several rows are
tried again alone, then halved; a single row is tried once more, then given up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from ...protocol.wire.arrays import Array

CREDIT = 2
"""Batches with the worker at a time: one is computed, one waits."""


@dataclass(slots=True)
class Batch:
    """Rows that go to the worker together, as positions in the list of texts."""

    rows: Array
    blamed: int = 0
    """How often it failed, or killed its worker, while no other batch was there."""
    alone: bool = False
    """Whether no other batch may be with the worker at the same time."""


class BatchQueue:
    """Hands out batches. `errors` has the reason of each row that was given up."""

    def __init__(self, batches: list[Array]) -> None:
        self._waiting = deque(Batch(rows) for rows in batches)
        self._sent: dict[int, Batch] = {}
        self._number = 0
        self.errors: dict[int, str] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is with the worker."""
        return not self._waiting and not self._sent

    def take(self) -> tuple[int, Array] | None:
        """The number and the rows of a batch to send now; None if there is none."""
        if not self._waiting or len(self._sent) >= CREDIT:
            return None
        if self._sent and (self._waiting[0].alone or any(one.alone for one in self._sent.values())):
            return None
        self._number += 1
        self._sent[self._number] = batch = self._waiting.popleft()
        return self._number, batch.rows

    def done(self, number: int) -> Array:
        """Remove a batch that has its result; return its rows."""
        return self._sent.pop(number).rows

    def failed(self, number: int, reason: str) -> None:
        """Take back a batch that failed. Its worker goes on."""
        self._blame(self._sent.pop(number), reason)

    def lost(self, reason: str, *, innocent: bool = False) -> None:
        """Take back all batches of a worker that ended. `innocent`: none of them is the cause."""
        sent = [self._sent.pop(number) for number in sorted(self._sent)]
        for batch in reversed(sent):
            if innocent:
                self._waiting.appendleft(batch)
            elif len(sent) > 1:  # any of them may be the cause
                self._waiting.appendleft(Batch(batch.rows, batch.blamed, alone=True))
            else:
                self._blame(batch, reason)

    def _blame(self, batch: Batch, reason: str) -> None:
        """Try a batch again, alone or in halves, or give its row up."""
        count = len(batch.rows)
        if count == 1 and batch.blamed:
            self.errors[int(batch.rows[0])] = reason
        elif count == 1 or not batch.alone:
            self._waiting.appendleft(Batch(batch.rows, batch.blamed + (count == 1), alone=True))
        else:
            for half in reversed(np.array_split(batch.rows, 2)):
                self._waiting.appendleft(Batch(half, alone=True))
