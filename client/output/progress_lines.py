"""Progress as lines with the time: for a log, a pipe, or a terminal without control of the cursor; and as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from ...protocol.wire.control import Progress
from .progress_rows import ProgressRow, Stopwatch, clock, count_of, left_of, rate_of, share_of

PLAIN_SECONDS = 5.0
JSON_SECONDS = 1.0


class LineView:
    """A line for a pass at each change of its state, and every PLAIN_SECONDS while its figures change.

    Between its last row and its end, what it waits for is shown only if it waits for PLAIN_SECONDS: the figures are those of
    its end.
    """

    def __init__(
        self,
        unit: str,
        about: str,
        write: Callable[[str], None],
        *,
        details: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`write` takes each line; `about` is put before the names. `now` is a steady clock in seconds."""
        self._unit, self._about, self._write, self._details, self._now = unit, about, write, details, now
        self._watch = Stopwatch(now())
        self._last: dict[str, tuple[str, str, int, float]] = {}
        """By name: state, activity and rows of the last line, and when it was written."""

    def show(self, progress: Progress) -> None:
        now = self._now()
        passes = self._watch.rows(progress, now)
        wrote = [self._show(one, now) for one in passes]
        if len(passes) > 1 and any(wrote) and any(one.state == "working" for one in passes):
            self._show(self._watch.total(passes, now), now)

    def close(self) -> None:
        pass

    def _show(self, one: ProgressRow, now: float) -> bool:
        """Write a line if it is due. Returns whether it was."""
        state, doing, rows, when = self._last.get(one.name, ("", "", -1, self._watch.started))
        ending = not one.growing and one.rows >= one.total and one.state != "done"
        late = now - when >= PLAIN_SECONDS and (state, doing, rows) != (one.state, one.doing, one.rows)
        due = late and one.state != "working" if ending else late or state != one.state
        if due:
            self._last[one.name] = (one.state, one.doing, one.rows, now)
            self._write(f"{self._about}{one.name}: {self._text(one)}")
        return due

    def _text(self, one: ProgressRow) -> str:
        rate, elapsed = rate_of(one, self._unit), clock(one.elapsed)
        if one.state == "done":
            parts = ["done", f"{one.rows:,} {self._unit}", rate, elapsed if one.elapsed else ""]
        elif one.state == "working":
            parts = [share_of(one), count_of(one), rate, elapsed, left_of(one)]
        else:
            parts = [one.doing or one.state, f"({share_of(one)}, {count_of(one)})" if one.rows else ""]
        if self._details and one.details:
            parts.append(f"· {one.details}")
        return " ".join(filter(None, parts))


class JsonView:
    """A JSON object with the whole progress, counted in `unit`: at each change of a state, and once in JSON_SECONDS."""

    def __init__(self, unit: str, write: Callable[[dict[str, Any]], None]) -> None:
        """`write` takes each object."""
        self._unit, self._write = unit, write
        self._watch = Stopwatch(time.monotonic())
        self._last: tuple[str, ...] = ()
        self._when = 0.0

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        states = tuple(one.state for one in progress.passes)
        if states == self._last and now - self._when < JSON_SECONDS:
            return
        self._last, self._when = states, now
        total = self._watch.total(self._watch.rows(progress, now), now)
        fields = msgspec.to_builtins(msgspec.structs.replace(progress, notices=()))
        overall = {"elapsed": round(total.elapsed, 1), "share_done": round(total.share, 4), "seconds_left": total.left}
        self._write({"progress": {**fields, "unit": self._unit, **overall, "at_least": total.at_least}})

    def close(self) -> None:
        pass
