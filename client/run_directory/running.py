"""Running: a run in progress, from its files: the process that works on it, its progress, and the time left."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.directory_lock import read_holder
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.run_json import read_spec
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.spec.run_spec import RunSpec
from ..output.formatting import pluralize

TAIL_BYTES = 1 << 18
"""Bytes that are read from the end of `events.jsonl`."""
LIVE_SECONDS = 60.0
"""A run on another host, whose lock is not visible here, counts as running if it wrote an event within this time."""
QUIET_SECONDS = 30.0
"""After this time without an event, the line on the run says so: it may hang."""


@dataclass(frozen=True, slots=True)
class VectorProgress:
    """One vector of a run: committed rows, and seconds for the remaining ones, None if the rate is not known."""

    rows: int
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """The process that writes to a run directory, and its progress. `pid` is 0 if the lock does not name the process."""

    step: str
    """`run`, `queries`, `pairs`, `after` for candidates, ranking and exports, or `shards` for those that will be merged."""
    pid: int
    parent: int
    host: str
    since: float
    rows: int
    """Rows read from the source so far."""
    source_read: bool
    """Whether the source was read to its end."""
    vectors: dict[str, VectorProgress] = field(default_factory=dict[str, VectorProgress])
    seconds_left: float | None = None
    quiet_seconds: float | None = None
    """Seconds since the last event."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        who = f"process {self.pid} on {self.host}" if self.pid else "a process of another version"
        when = f" since {time.strftime('%H:%M:%S', time.localtime(self.since))}" if self.since else ""
        if self.step == "shards":
            return f"running: {who}{when} runs the shards that are not done"
        if self.step == "after":
            return f"running: {who}{when} writes candidates, a ranking or an export"
        what = "" if self.step == "run" else f", at the {self.step}"
        text = f"running: {who}{when}{what}; {how_far(self.rows, self.source_read, self.vectors)}"
        if self.seconds_left is not None:
            text += f"; about {_span(self.seconds_left)} left"
        if self.quiet_seconds is not None and self.quiet_seconds > QUIET_SECONDS:
            text += f"; no event for {_span(self.quiet_seconds)}"
        return text


def look(root: RunLayout) -> Running | None:
    """The process that works on a run, or on its queries or pairs; None if there is none."""
    for step, layout in (("run", root), ("queries", RunLayout(root.queries)), ("pairs", RunLayout(root.scores))):
        found = read_holder(layout)
        if found is None or not (found[1] or _is_elsewhere(layout, found[0].host)):
            continue
        holder = found[0]
        who = (holder.pid, holder.parent, holder.host, holder.since)
        rows, source_read, vectors = progress_of(layout)
        if step == "run" and layout.manifest.exists():
            return Running("after", *who, rows, source_read, vectors)
        rates, quiet = _rates(layout, holder.since)
        left = {
            name: VectorProgress(one.rows, _left(rows - one.rows, rates.get(name)) if source_read else None)
            for name, one in vectors.items()
        }
        open_ = [one.seconds_left for one in left.values() if one.rows < rows or not source_read]
        total = sum(one for one in open_ if one is not None) if None not in open_ else None
        return Running(step, *who, rows, source_read, left, total, quiet)
    return None


def look_at_shards(layout: RunLayout) -> Running | None:
    """The command that runs the shards of a merged directory which are not done; None if there is none."""
    found = read_holder(RunLayout(layout.shards))
    if found is None or not found[1]:
        return None
    holder = found[0]
    return Running("shards", holder.pid, holder.parent, holder.host, holder.since, *progress_of(layout))


def progress_of(layout: RunLayout) -> tuple[int, bool, dict[str, VectorProgress]]:
    """Rows read, whether the source was read to its end, and the committed rows of each vector."""
    try:
        names = [one.vector for one in read_spec(layout).outputs]
    except RunDirectoryError:
        names = []
    rows = sum(_rows((layout.chunk_segment(one) for one in segments_in(layout.chunks)), ChunkSegmentInfo))
    return rows, layout.intake.exists(), {name: VectorProgress(committed_rows(layout, name)) for name in names}


def committed_rows(layout: RunLayout, vector: str) -> int:
    """The rows of a vector's segments on disk."""
    paths = (layout.vector_segment(vector, one) for one in segments_in(layout.vector_folder(vector)))
    return sum(_rows(paths, VectorSegmentInfo))


def split_by_commit(layout: RunLayout, spec: RunSpec, computed: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Of the `computed` rows of each pass, those that are committed, and the others. A row of a pass with several vectors is
    committed if all of them are."""
    found: dict[str, tuple[int, int]] = {}
    for one in spec.passes:
        if (rows := computed.get(one.vector)) is not None:
            committed = min(committed_rows(layout, output.vector) for output in one.outputs)
            found[one.vector] = committed, rows - committed
    return found


def how_far(rows: int, source_read: bool, vectors: dict[str, VectorProgress]) -> str:
    """The progress in words."""
    total = f"{rows:,}{'' if source_read else '+'}"
    return (
        ", ".join(f"{name} {one.rows:,} of {total} rows committed" for name, one in vectors.items()) or f"{total} rows"
    )


def interrupted(layout: RunLayout) -> str:
    """One line on an interrupted run: how far it came, and the command that resumes it. Empty for a run that is done."""
    if layout.manifest.exists():
        return ""
    if layout.shards_record.exists():
        return f"the merge of its shards was not finished; to continue it: embedfleet merge {layout.root}"
    spec = read_spec(layout)
    return (
        f"interrupted: {how_far(*progress_of(layout))}; to resume, run the same command again: embedfleet run {spec.source} "
        f"--out {layout.root} with its other flags"
    )


def _rows(paths: Iterator[Any], kind: type[Any]) -> Iterator[int]:
    for path in paths:
        with contextlib.suppress(RunDirectoryError):  # `verify` reports it
            yield read_info(path, kind).rows


def _is_elsewhere(layout: RunLayout, host: str) -> bool:
    if not host or host == socket.gethostname():
        return False
    try:
        return time.time() - layout.events.stat().st_mtime < LIVE_SECONDS
    except OSError:
        return False


def _left(rows: int, rate: float | None) -> float | None:
    if rows <= 0:
        return 0.0
    return round(rows / rate, 1) if rate else None


class _Event(msgspec.Struct, frozen=True):
    time: float
    event: str
    vector: str = ""
    rows: Any = 0


def _rates(layout: RunLayout, since: float) -> tuple[dict[str, float], float | None]:
    """For each vector its rows per second in this session, by the events; and the seconds since the last event."""
    events = [one for one in _tail(layout) if one.time >= since]
    rates: dict[str, float] = {}
    for name in {one.vector for one in events if one.event == "batch_progress"}:
        progress = [one for one in events if one.event == "batch_progress" and one.vector == name]
        seconds = progress[-1].time - progress[0].time
        if seconds > 0 and progress[-1].rows > progress[0].rows:
            rates[name] = (progress[-1].rows - progress[0].rows) / seconds
    return rates, round(max(time.time() - events[-1].time, 0.0), 1) if events else None


def _tail(layout: RunLayout) -> Sequence[_Event]:
    try:
        with layout.events.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read().split(b"\n")[1 if size > TAIL_BYTES else 0 : -1]
    except OSError:
        return ()
    found: list[_Event] = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            found.append(msgspec.json.decode(line, type=_Event))
    return found


def _span(seconds: float) -> str:
    if seconds < 90:
        return pluralize(round(seconds), "second")
    return pluralize(round(seconds / 60), "minute") if seconds < 5400 else f"{seconds / 3600:,.1f} hours"
