"""EventLog: passes the events of a run to events.jsonl and to an observer."""

from __future__ import annotations

import time
from collections.abc import Callable

from .observer import EventFields, Observer

BATCH_EVENT_SECONDS = 2.0
"""Least time between two events of a kind that batches cause, by pass: events.jsonl grows with time, not with the corpus."""


class EventLog:
    """`write(event, unix time, fields)` takes each event; `observer` gets it too."""

    def __init__(self, write: Callable[[str, float, EventFields], None], observer: Observer) -> None:
        self._write = write
        self.observer = observer
        self._last: dict[tuple[str, int], float] = {}
        """By event and pass index: when it was last due."""

    def record(self, event: str, fields: EventFields) -> None:
        """Write an event now."""
        when = time.time()
        self._write(event, when, fields)
        self.observer.noted(event, when, fields)

    def due(self, event: str, pass_index: int, now: float) -> bool:
        """Whether to write an event that batches cause; True counts as written. `now` is a steady clock's, in seconds."""
        key = (event, pass_index)
        if now - self._last.get(key, 0.0) < BATCH_EVENT_SECONDS:
            return False
        self._last[key] = now
        return True
