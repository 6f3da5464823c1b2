"""`embedfleet merge` and `embedfleet.merge`: start the process of the exporter that merges the shards of a directory."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from ...protocol.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_QUARANTINED,
    EmbedfleetError,
    UsageError,
    describe_exit,
)
from ...protocol.object_storage.address import with_addresses
from ...protocol.process.child import STEADY_MEMORY, ChildProcess, exit_error
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.merge import MergeSummary, OnDuplicate
from ..output.formatting import pluralize
from ..output.merge_progress import MergeProgress
from ..output.messages import messages
from .remote_merge import merge_at

if TYPE_CHECKING:
    from ..run_directory.reader import Run

CHOICES = ("fail", "first")
"""What to do about an id in two shards: refuse it, or keep the first record, as one run would."""

STOP_SECONDS = 10.0
POLL_SECONDS = 0.2
"""A signal is seen after this time at the latest."""

Show = Callable[[str, int, int], None]
"""Gets the name of a step, how much of it is done, and how much there is."""


class _Line(msgspec.Struct):
    """A line of the process: of its progress or, last, the summary."""

    step: str = ""
    done: int = 0
    of: int = 0
    merged: MergeSummary | None = None


def merge(path: str | PathLike[str], *, on_duplicate: Literal["fail", "first"] = "fail") -> Run:
    """Merge the shards in the directory `path`, or at an address in object storage, into one run, and open it. If it is merged
    already and no shard has changed, nothing is written.

    UsageError if shards are missing, unfinished, damaged or of different settings, or if an id is in two shards and
    `on_duplicate` is not `first`, which keeps the first record of each, as one run would.
    """
    from ..run_directory.reader import open_run  # late: it imports Arrow, and the command does not need it

    _check_choice(on_duplicate)
    merge_at(path, on_duplicate, lambda _line: None, lambda root: merge_quietly(root, on_duplicate))
    return open_run(path)


def merge_quietly(
    root: Path,
    on_duplicate: OnDuplicate,
    show: Show = lambda _step, _done, _of: None,
    stopping: Callable[[], bool] = lambda: False,
) -> MergeSummary:
    """Merge the shards below `root` and return the summary. `show` gets the progress.

    KeyboardInterrupt if the process was interrupted, or `stopping()` turned true; or else the error that it reports.
    """
    summary: MergeSummary | None = None
    reader, writer = os.pipe()
    try:
        arguments = [str(RunLayout(root).root.absolute()), f"--on-duplicate={on_duplicate}"]
        child = ChildProcess("embedfleet.exporter.commands.merge", arguments, environment=STEADY_MEMORY, stdout=writer)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with closing(child), os.fdopen(reader, "rb", buffering=0) as output:
        try:
            for raw in _lines(output.fileno(), stopping):
                line = msgspec.json.decode(raw, type=_Line)
                summary = line.merged or summary
                if line.step:
                    show(line.step, line.done, line.of)
            code = child.wait(STOP_SECONDS)
        except KeyboardInterrupt:
            child.interrupt()  # it removes the files that it is writing
            child.wait(STOP_SECONDS)
            raise
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code is not None and code < 0:
            raise EmbedfleetError(f"{root}: the merge was {describe_exit(code)}; merge again, which continues it")
        if code != EXIT_DONE or summary is None:
            raise exit_error(code or 1, child.tail(), f"{root}: the merge ended with {code}; merge again")
    return summary


def _check_choice(on_duplicate: str) -> None:
    if on_duplicate not in CHOICES:
        raise UsageError(f"on_duplicate={on_duplicate!r}: give fail or first")


def _lines(output: int, stopping: Callable[[], bool]) -> Iterator[bytes]:
    """The lines of a pipe, as they come. KeyboardInterrupt once `stopping()` turns true, also while no line comes."""
    waiting, left = select.poll(), b""
    waiting.register(output, select.POLLIN)
    while True:
        if stopping():
            raise KeyboardInterrupt
        if not waiting.poll(POLL_SECONDS * 1000):
            continue
        block = os.read(output, 1 << 16)
        *whole, left = (left + block).split(b"\n")
        yield from whole
        if not block:
            return


def execute(path: Path, on_duplicate: OnDuplicate, *, as_json: bool) -> int:
    """Merge, show the progress and the result, and return the exit code: 3 if the merged run has rows in quarantine."""

    def work(root: Path) -> MergeSummary:
        with closing(MergeProgress()) as progress:
            return merge_quietly(root, on_duplicate, progress.show)

    try:
        done = merge_at(path, on_duplicate, messages().say, work)
    except KeyboardInterrupt:
        messages().say("interrupted; the same command continues")
        return EXIT_INTERRUPTED
    if as_json:
        sys.stdout.write(with_addresses(msgspec.json.encode(done).decode()) + "\n")
        sys.stdout.flush()
    messages().say(describe(done))
    return EXIT_QUARANTINED if done.quarantined else EXIT_DONE


def describe(done: MergeSummary) -> str:
    """One line on a merge."""
    if not done.changed:
        return (
            f"{done.root}: its {pluralize(done.shards, 'shard')} are merged, and none has changed since: nothing to do"
        )
    parts = [
        f"{pluralize(done.shards, 'shard')} merged: {pluralize(done.rows, 'chunk')} in "
        f"{pluralize(done.segments, 'segment')}"
    ]
    if done.copied < done.segments:
        parts.append(f"{done.copied:,} of these written now")
    if done.duplicates:
        parts.append(f"{pluralize(done.duplicates, 'record')} left out, whose id an earlier shard has")
    if done.quarantined:
        parts.append(f"{done.quarantined:,} in quarantine")
    return f"{done.root}: {'; '.join(parts)}"
