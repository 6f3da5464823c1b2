"""Describe a directory of shards for `embedfleet info`, before and after their merge."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TypedDict

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.shard_states import ShardState, State, changed_shards, read_states, shard_command
from ...protocol.object_storage.address import with_addresses
from ...protocol.run_directory.directory_lock import read_holder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.merge import read_merge
from ...protocol.run_directory.records.shards import ShardsRecord, read_shards
from ...protocol.text.number_spans import spans
from ..arguments import expand_path


class ShardsDescription(TypedDict):
    """The JSON of `embedfleet info --json` for a directory whose shards are not merged."""

    root: str
    """The folder, or the address that it is a copy of. `next` names the same."""
    status: str
    """`merging` while a process merges them; `running` while a command runs all of them; else `unmerged`."""
    shards: int
    done: int
    running: list[int]
    """The numbers of these shards; so are the next two fields."""
    unfinished: list[int]
    missing: list[int]
    next: str
    """The command to give next."""


def describe_shards(path: str | PathLike[str]) -> ShardsDescription | None:
    """The shards of a directory that is not merged; None for any other folder."""
    layout = RunLayout(expand_path(path, "DIR", RunDirectoryError))
    if layout.spec.exists() or (record := read_shards(layout)) is None:
        return None
    states = list(read_states(layout, record))
    done = sum(one.state == "done" for one in states)
    return {
        "root": with_addresses(str(layout.root)),
        "status": _status(layout, is_whole=done == record.shards),
        "shards": record.shards,
        "done": done,
        "running": _numbers(states, "running"),
        "unfinished": _numbers(states, "unfinished"),
        "missing": _numbers(states, "missing"),
        "next": with_addresses(_next(layout, record, states)),
    }


def shard_lines(found: ShardsDescription) -> list[str]:
    """The description for people: how many are done, which are not, and the next command."""
    lines = [f"{found['done']:,} of {found['shards']:,} shards done"]
    for name, numbers in (
        ("running", found["running"]),
        ("unfinished", found["unfinished"]),
        ("not begun", found["missing"]),
    ):
        if numbers:
            lines.append(f"{name}: {spans(numbers)}")
    if found["status"] != "unmerged":
        return [*lines, f"a process {'merges' if found['status'] == 'merging' else 'runs'} them now"]
    flags = ", with the flags of the other shards" if found["done"] < found["shards"] else ""
    return [*lines, f"next: {found['next']}{flags}" if found["next"] else "wait for those that run"]


def _status(layout: RunLayout, *, is_whole: bool) -> str:
    """`running` or `merging` if a process holds the directory, or its shards to hand them out; else `unmerged`."""
    held = [found[1] for found in map(read_holder, (layout, RunLayout(layout.shards))) if found is not None]
    return ("merging" if is_whole else "running") if any(held) else "unmerged"


def _numbers(states: Sequence[ShardState], state: State) -> list[int]:
    return [one.index for one in states if one.state == state]


def _next(layout: RunLayout, record: ShardsRecord, states: Sequence[ShardState]) -> str:
    """The command for the first shard that no process computes; `merge` if all are done; empty if the rest is in progress."""
    open_ = [one.index for one in states if one.state in ("unfinished", "missing")]
    if open_:
        return shard_command(layout, record, open_[0])
    return f"embedfleet merge {layout.root}" if all(one.state == "done" for one in states) else ""


def stale_line(layout: RunLayout) -> str:
    """One line on a merged directory whose shards were run again since, or are run now; empty for any other."""
    record = read_shards(layout)
    merge = read_merge(layout) if record is not None else None
    if record is None or merge is None:
        return ""
    states = list(read_states(layout, record))
    changed, running = changed_shards(layout, merge), _numbers(states, "running")
    if not changed and not running:
        return ""
    parts = [f"shards that were run again since the merge: {spans(changed)}"] if changed else []
    if running:
        parts.append(f"shards that are running: {spans(running)}")
    # for example without the model that the others have now
    left = [one.index for one in states if one.state in ("unfinished", "missing")]
    if left:
        command = shard_command(layout, record, left[0])
        parts.append(f"not done: {spans(left)}; {command}, with the flags of the other shards")
    elif not running:
        parts.append(f"embedfleet merge {layout.root} takes them in")
    return "; ".join(parts)
