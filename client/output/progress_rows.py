"""The figures of a run's progress, and their words: percent, rate with its unit, elapsed time, time left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...protocol.wire.control import PassProgress, Progress
from .formatting import percent


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """One pass, or all passes together."""

    name: str
    rows: int
    """Rows done, earlier sessions included."""
    total: int
    share: float
    """Part of the work that is done, 0 to 1."""
    rate: float
    """Rows a second; 0 if it is not known."""
    elapsed: float
    """Seconds at work in this session."""
    left: float | None
    """Seconds for the rest; None if they are not known, or nothing is left."""
    growing: bool
    """Whether the source is not read to its end, so that `total` grows."""
    at_least: bool
    """Whether `left` will grow: for the same reason, or since a pass has no rate yet."""
    state: str
    """`waiting`, `staging`, `working` or `done`."""
    doing: str = ""
    """What it waits for, or what its worker does; empty while it computes."""
    details: str = ""
    """Tokens a second, devices and batches in flight."""


def rate_of(row: ProgressRow, unit: str) -> str:
    """`1,234 rows/s`, `12.5 rows/s`; empty if the rate is not known."""
    if not row.rate:
        return ""
    return f"{row.rate:,.0f} {unit}/s" if row.rate >= 1000 else f"{row.rate:,.1f} {unit}/s"


def count_of(row: ProgressRow) -> str:
    """`1,024/2,048`, or `1,024/2,048+` while the source is read."""
    return f"{row.rows:,}/{row.total:,}{'+' if row.growing else ''}"


def left_of(row: ProgressRow) -> str:
    """`ETA 1:23`, or `ETA 1:23+` if it takes at least so long; empty if that is not known."""
    if row.left is None:
        return ""
    return f"ETA {clock(row.left)}{'+' if row.at_least else ''}"


def share_of(row: ProgressRow) -> str:
    """`42%`."""
    return percent(row.share, 0)


def clock(seconds: float) -> str:
    """`1:23`, `1:00:23`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(slots=True)
class Stopwatch:
    """Times how long each pass, and the whole run, has worked. `now` is a steady clock's, in seconds."""

    started: float
    _began: dict[str, float] = field(default_factory=dict[str, float])
    _ended: dict[str, float] = field(default_factory=dict[str, float])

    def rows(self, progress: Progress, now: float) -> list[ProgressRow]:
        """A row for each pass."""
        return [self._of_pass(progress, one, now) for one in progress.passes]

    def total(self, passes: Sequence[ProgressRow], now: float) -> ProgressRow:
        """A row for all passes together. Passes that work side by side count once for the time left."""
        working = [one for one in passes if one.state == "working"]
        unknown = [one for one in passes if one.left is None and one.state != "done" and one.share < 1]
        beside = max((one.left for one in working if one.left is not None), default=0.0)
        after = sum(one.left for one in passes if one.left is not None and one.state != "working")
        return ProgressRow(
            name="all passes",
            rows=sum(one.rows for one in passes),
            total=sum(one.total for one in passes),
            share=sum(one.share for one in passes) / max(len(passes), 1),
            rate=sum(one.rate for one in working),
            elapsed=now - self.started,
            left=beside + after or None,
            growing=any(one.growing for one in passes),
            at_least=bool(unknown) or any(one.at_least for one in passes),
            state="done" if all(one.state == "done" for one in passes) else "working",
        )

    def _of_pass(self, progress: Progress, one: PassProgress, now: float) -> ProgressRow:
        if one.state == "working":
            self._began.setdefault(one.vector, now)
        elif one.state == "done":
            self._ended.setdefault(one.vector, now)
        began = self._began.get(one.vector)
        computed = progress.intake_done and one.rows_done >= progress.rows  # estimates may say a little less
        share = 1.0 if computed else one.share_done
        unfinished = one.state != "done" and share < 1
        details = [f"{one.tokens_per_second:,.0f} tokens/s"] if one.tokens_per_second else []
        details += [", ".join(one.devices)] if one.devices else []
        details += [f"{one.in_flight} in flight"] if one.in_flight else []
        return ProgressRow(
            name=one.vector,
            rows=one.rows_done,
            total=progress.rows,
            share=share,
            rate=one.rows_per_second,
            elapsed=self._ended.get(one.vector, now) - began if began is not None else 0.0,
            left=one.seconds_left if unfinished else None,
            growing=not progress.intake_done,
            at_least=not progress.intake_done,
            state=one.state,
            doing=one.doing,
            details=" · ".join(details),
        )
