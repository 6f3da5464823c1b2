"""EventLog: the events of a run, written for events.jsonl and heard by an observer."""

from __future__ import annotations

import time
from collections.abc import Callable

from .observer import EventFields, Observer

BATCH_EVENT_SECONDS = 2.0
"""An event that batches cause comes for each pass at most this often: events.jsonl grows with the time, not the corpus."""


class EventLog:
    """`write(event, unix time, fields)` takes each event; `observer` hears it too."""

    def __init__(self, write: Callable[[str, float, EventFields], None], observer: Observer) -> None:
        self._write = write
        self.observer = observer
        self._last: dict[tuple[str, int], float] = {}
        """When an event of a pass, by its index, was last due."""

    def record(self, event: str, fields: EventFields) -> None:
        """Write an event now."""
        when = time.time()
        self._write(event, when, fields)
        self.observer.noted(event, when, fields)

    def due(self, event: str, pass_index: int, now: float) -> bool:
        """Whether an event that batches cause is to be written now; it is then taken for written. `now` is a steady clock's."""
        key = (event, pass_index)
        if now - self._last.get(key, 0.0) < BATCH_EVENT_SECONDS:
            return False
        self._last[key] = now
        return True
