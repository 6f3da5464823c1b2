"""Merge the shards of a directory into one run directory, which every reader reads like any other."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Literal

import msgspec

from ...protocol.errors import RunDirectoryError, UsageError
from ...protocol.finished_run.merged_shards import summarize_merge, unchanged_merge
from ...protocol.host.free_cores import find_free_cores
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.merge import MergeRecord, MergeSummary, OnDuplicate
from ...protocol.run_directory.records.shards import ShardsRecord
from ...protocol.version import __version__
from .all_shards import Fault, describe_faults, read_all, shards_of
from .closing import finish, publish, write_records
from .duplicates import compare_texts, find_repeated, refusal
from .merged_directory import MergedDirectory
from .plan import MergedSegment, Plan, make_plan
from .rejected_records import RejectedRecords, check_usable
from .segment_copy import SegmentCopy
from .shard_run import DamagedShard, ShardRun
from .source_files import SourceFiles

Step = Literal["shards", "ids", "copy", "publish"]
"""What a merge does, in this order; `shards` counts shards, all others rows."""

Show = Callable[[Step, int, int], None]
"""Gets the step, how much of it is done, and how much there is."""

MOST_THREADS = 8
"""Segments that are copied at the same time, at most: each takes memory."""


def merge_shards(layout: RunLayout, on_duplicate: OnDuplicate, show: Show) -> MergeSummary:
    """Merge the shards below `layout`, which this process holds. A merge that is done and whose shards are the same changes
    nothing.

    RunDirectoryError if shards are missing, unfinished, damaged or do not belong together, UsageError for an id in two shards
    unless `on_duplicate` is `first`: both before anything is written, except for damage within a file, which is found when
    the file is copied.
    """
    record = shards_of(layout)
    _check_engine(layout, record)
    directory = MergedDirectory(layout, record.spec)
    if (done := unchanged_merge(layout, record, on_duplicate)) is not None:
        return done
    shards = read_all(layout, record, lambda done: show("shards", done, record.shards))
    try:
        check_usable(record, shards)
        return _merge(layout, record, shards, directory, on_duplicate, show)
    except DamagedShard as error:
        raise _refused(layout, record, [error]) from error


def _merge(
    layout: RunLayout,
    record: ShardsRecord,
    shards: Sequence[ShardRun],
    directory: MergedDirectory,
    on_duplicate: OnDuplicate,
    show: Show,
) -> MergeSummary:
    total, damaged = sum(one.rows for one in shards), list[DamagedShard]()
    holders, places = find_repeated(shards, layout.root, lambda done: show("ids", done, total), damaged)
    if damaged:
        raise _refused(layout, record, damaged)
    if len(places) and on_duplicate == "fail":
        raise refusal(layout.root, record, shards, holders, places)
    left_out = compare_texts(shards, holders, places)
    source = SourceFiles(len(record.files), shards)
    plan = make_plan(shards, left_out, source)
    made = MergeRecord(
        embedfleet=__version__,
        on_duplicate=on_duplicate,
        duplicates=len(places),
        manifests=tuple(one.manifest for one in shards),
        vectors=tuple(one.vector for one in record.spec.outputs),
        segments=tuple(one.made_of for one in plan.segments),
    )
    _check_room(layout, plan, directory.kept(made))
    directory.begin(made)
    rejected = RejectedRecords(layout, record, shards, left_out)
    for one in plan.segments:
        rejected.write(one.info.segment, one.inputs)
    rejected.write(len(plan.segments), plan.rest)
    copy = SegmentCopy(layout, record.spec.outputs, shards, left_out)
    missing = [one for one in plan.segments if copy.missing(one)]
    there = plan.rows - sum(one.info.rows for one in missing)
    if damaged := _copy(copy, missing, lambda done: show("copy", there + done, plan.rows)):
        raise _refused(layout, record, damaged)
    write_records(layout, record, shards, plan, left_out, source)
    points = publish(layout, record, shards, plan, lambda done: show("publish", done, plan.rows))
    finish(layout, record, shards, plan, points, _run_name(made), directory)
    return summarize_merge(layout, record, len(places), copied=len(missing), changed=True)


def _copy(copy: SegmentCopy, segments: Sequence[MergedSegment], show: Callable[[int], None]) -> list[DamagedShard]:
    """Write these segments, several at a time. Returns the damage that was found; all other files are written."""
    damaged, done = list[DamagedShard](), 0
    threads = min(MOST_THREADS, find_free_cores().threads)
    open_, waiting = set[Future[tuple[int, list[DamagedShard]]]](), iter(segments)
    with ThreadPoolExecutor(threads, "copy") as pool:
        try:
            while True:
                open_ |= {pool.submit(_write, copy, one) for one in islice(waiting, 2 * threads - len(open_))}
                if not open_:
                    return damaged
                ended, open_ = wait(open_, return_when=FIRST_COMPLETED)
                for one in ended:
                    rows, found = one.result()
                    done, damaged = done + rows, damaged + found
                show(done)
        finally:
            pool.shutdown(cancel_futures=True)


def _write(copy: SegmentCopy, one: MergedSegment) -> tuple[int, list[DamagedShard]]:
    """Write a segment. Returns its rows, and the damage of its shards."""
    found = copy.write(one)
    return one.info.rows, found


def _check_engine(layout: RunLayout, record: ShardsRecord) -> None:
    if record.spec.index == "edge" and importlib.util.find_spec("qdrant_edge") is None:
        raise UsageError(
            f"{layout.root}: the merge makes the collection, which needs the Qdrant Edge engine: "
            "pip install 'embedfleet[qdrant]'"
        )


def _check_room(layout: RunLayout, plan: Plan, kept: set[int]) -> None:
    """UsageError if the files to be written do not fit on the disk. The collection is not counted."""
    needed = sum(part.all_bytes for one in plan.segments if one.info.segment not in kept for part in one.inputs)
    free = shutil.disk_usage(layout.root).free
    if needed > free:
        raise UsageError(
            f"{layout.root}: the merged files need {needed:,} bytes, and the disk has {free:,} free; make room, or read "
            f"{layout.shards.name}/*/ without a merge"
        )


def _refused(layout: RunLayout, record: ShardsRecord, damaged: Sequence[DamagedShard]) -> RunDirectoryError:
    faults = [Fault(one.index, f"is damaged: {one}") for one in sorted(damaged, key=lambda one: one.index)]
    return RunDirectoryError(describe_faults(layout, record, faults))


def _run_name(made: MergeRecord) -> str:
    """The name of the merged run: the same for the same shards."""
    return f"merge-{hashlib.blake2b(msgspec.json.encode(made), digest_size=6).hexdigest()}"
