"""Finish an upload in shards: check that all of them are uploaded, and have the collection indexed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ....protocol.errors import EmbedfleetError, RunDirectoryError
from ....protocol.finished_run.done_run import DoneRun
from ....protocol.finished_run.point_ids import point_id
from ....protocol.index.collection import Quantization, collection_name, collection_schema
from ....protocol.spec.shard import Shard
from ...output.formatting import pluralize
from ..collection_options import CollectionOptions
from ..payload_indexes import Indexes
from ..payloads import BigIntegersAsText
from ..requests import Requests
from ..sizes import LargePoints
from ..target import UploadTarget
from ..uploader import GREEN_SECONDS, Progress
from .marks import MARKS, count_shard
from .shard_runs import ShardRuns, describe_shards

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


TOO_LARGE = (
    ". If one of them leaves chunks out that the server refuses as too large, give --finish the server's limit too, with "
    "--max-request"
)


@dataclass(frozen=True, slots=True)
class Finished:
    """A collection with the points of all shards, counted and indexed. `points` is the number of all points in it."""

    collection: str
    points: int
    left_out: tuple[str, ...] = ()
    """Ids of chunks that are larger than a request may be."""
    others: int = 0
    """Points in the collection of other runs, or of earlier states of these shards."""
    pruned: int = 0
    notices: tuple[str, ...] = ()
    """Lines for people."""


def finish_upload(
    runs: ShardRuns,
    opened: Sequence[DoneRun],
    client: QdrantClient,
    collection: str | None,
    large: LargePoints,
    command: Callable[[Shard], str],
    *,
    quantization: Quantization = None,
    options: CollectionOptions | None = None,
    indexes: Indexes | None = None,
    prune: bool = False,
    green_seconds: float = GREEN_SECONDS,
    progress: Progress | None = None,
) -> Finished:
    """Count the points of each shard, make the payload `indexes`, switch indexing on, and wait until it is done.

    `opened` are the runs of all shards, and `command` gives the command that uploads a shard, for messages. `large` is that of
    the uploads: chunks beyond it are not missing. With `prune`, points of other runs are deleted.

    EmbedfleetError, with indexing still off, if points of a shard are missing; also if the server fails, or the index is not
    ready in time. UsageError if the collection is not there, or has another schema.
    """
    requests, indexes = Requests(client, collection or collection_name(runs.layout.root)), indexes or {}
    run = next((one for one in opened if one.segments), None)
    if run is None:
        raise RunDirectoryError(f"{runs.layout.root}: no shard has a chunk, so there is nothing to upload")
    target = UploadTarget(requests)
    schema = collection_schema(run, quantization)
    target.prepare(schema, options, {**MARKS, **indexes}, quantize=quantization is not None, create=False)
    target.index_payloads()
    points = _count(runs, opened, requests, large, command, progress)
    pruned = target.prune(point_id(chunk) for one in opened for chunk in one.ids()) if prune else 0
    target.drop_indexes(MARKS.keys() - indexes.keys())  # before the graph is built, which would take them into account
    target.switch_indexing_on()
    target.wait_until_green(green_seconds)
    there = target.count()
    if there < points:
        raise EmbedfleetError(
            f"{target.collection}: holds {there:,} points where its shards have {points:,}; somebody deletes points there. "
            "Upload the shards again, then finish"
        )
    others = target.count_ours() - points if there > points else 0
    notices = list(large.notices)
    if others > 0:
        notices.append(
            f"{target.collection} has {pluralize(others, 'more point')}, of other runs or of an earlier state of this one; "
            "--finish --prune deletes them"
        )
    return Finished(target.collection, there, tuple(large.left_out), others, pruned, tuple(notices))


def _count(
    runs: ShardRuns,
    opened: Sequence[DoneRun],
    requests: Requests,
    large: LargePoints,
    command: Callable[[Shard], str],
    progress: Progress | None,
) -> int:
    """The points of all shards. EmbedfleetError if some are missing. `large` gains the chunks that were left out."""
    rows, total, short = sum(run.rows for run in opened), 0, dict[int, int]()
    for index, run in enumerate(opened):
        there = count_shard(requests, index, runs.digests(index))
        total += there
        if there < run.rows:
            left_out = _left_out(runs, run, index, there, large)
            if left_out is None:
                short[index] = there
            else:
                large.left_out += left_out
        if progress is not None:
            progress(total, rows)
    if not short:
        return total

    def describe(index: int) -> str:
        return f"{runs.shard(index)} has {short[index]:,} of {opened[index].rows:,} points (`{command(runs.shard(index))}`)"

    more = TOO_LARGE if any(short.values()) else ""
    raise EmbedfleetError(
        f"{requests.collection}: {len(short):,} of {runs.count:,} shards are not there whole: "
        f"{describe_shards(list(short), describe)}. Run these commands, then finish again{more}"
    )


def _left_out(runs: ShardRuns, run: DoneRun, index: int, there: int, large: LargePoints) -> list[str] | None:
    """The chunks of a shard that are too large for a request, if all of its others are `there`; else None.

    Stops at the first point that is beyond those.
    """
    found = replace(large, left_out=[], shortened=[])
    fits = 0
    for _ in found.take(BigIntegersAsText().take(runs.points(run, index))):
        fits += 1
        if fits > there:
            return None
    return found.left_out if fits == there else None
