"""Notices: events of a fleet as lines for people; frequent events are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEMPLATES = {
    "source_left_out": "names in the source that are not read: {names}",
    "worker_lost": "worker lost on {device}: {reason}; its batches go to others",
    "device_bad": "{device} is given up after {failures} failures: {reason}",
    "cores_limited": "{device}: {reason}",
    "cpu_fallback": "{vector} goes on on {device}: every GPU is given up",
    "segment_damaged": "segment {segment} of {vector} was damaged ({reason}); it is computed again",
    "pass_given_up": "{vector}: {reason}. Weights of the metadata stand in where chunks have them",
    "models_unchecked": "the models could not be looked at beforehand: {reason}; their workers will, as they load them",
    "multivector_too_large": "{vector}: rows without a multivector so far: {rows:,}. {reason}",
    "stored_as_float16": "{vector}: segments stored as float16, since int8 would be too coarse: {segments:,}",
    "model_assumed": "{vector}: {what}",
    "backend_note": "{vector}: {note}",
    "lease_waiting": "waiting for {device}: {reason}",
    "exporter_lost": "the exporter ended ({reason}); uncommitted segments are computed again",
    "host_joined": "host {host} joined with {devices}",
    "host_left": "host {host} left: {reason}",
    "not_released": "{device} did not get all its memory back: {used} bytes in use, {before} before the lease",
}
"""Events that are shown to people during the run."""
IN_FULL = 3
"""Times that an event of a device is shown in full before it is only counted."""
COUNT_SECONDS = 30.0
"""Between two lines with a count; after as long a silence an event is shown in full again."""


@dataclass(slots=True)
class _Repeats:
    """One event of one device: how often it was shown and only counted, and when. Times in seconds."""

    shown: int = 0
    counted: int = 0
    last_line: str = ""
    line_at: float = 0.0
    seen_at: float = 0.0


class Notices:
    """Lines for people. `now` is a steady clock's, in seconds."""

    def __init__(self) -> None:
        self._repeats: dict[tuple[str, str], _Repeats] = {}

    def tell(self, event: str, fields: Mapping[str, Any], now: float) -> list[str]:
        """The lines to show; none if the event is not for people, or is only counted this time."""
        if event not in TEMPLATES:
            return []
        shown = {name: ", ".join(value) if isinstance(value, list) else value for name, value in fields.items()}
        line = TEMPLATES[event].format(**shown)
        one = self._repeats.setdefault((event, str(fields.get("device", ""))), _Repeats())
        lines: list[str] = []
        if now - one.seen_at > COUNT_SECONDS:
            lines += self._count(one, now)
            one.shown = 0
        one.seen_at, one.last_line = now, line
        if one.shown < IN_FULL:
            one.shown += 1
            one.line_at = now
            return [*lines, line]
        one.counted += 1
        return lines

    def due(self, now: float, *, end: bool = False) -> list[str]:
        """A line for each event counted for COUNT_SECONDS; with `end`, for each counted event."""
        late = [one for one in self._repeats.values() if end or now - one.line_at >= COUNT_SECONDS]
        return [line for one in late for line in self._count(one, now)]

    def _count(self, one: _Repeats, now: float) -> list[str]:
        if not one.counted:
            return []
        line = f"{one.counted:,} more in {max(now - one.line_at, 1):,.0f} s, the last one: {one.last_line}"
        one.counted, one.line_at = 0, now
        return [line]
