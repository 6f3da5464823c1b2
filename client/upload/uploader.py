"""Upload a finished run to a collection: read in one thread, send in several. An interrupted upload resumes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from ...protocol.errors import EmbedfleetError
from ...protocol.finished_run.done_run import open_done_run
from ...protocol.finished_run.point_batches import BatchLimits, cut
from ...protocol.finished_run.point_ids import point_id
from ...protocol.finished_run.points import Point
from ...protocol.index.collection import Quantization, collection_name, collection_schema
from ...protocol.source.numbered_ids import NumberedIds
from ..arguments import run_folder
from ..output.formatting import pluralize
from .collection_options import CollectionOptions
from .delivery import Delivered, Delivery
from .payload_indexes import Indexes
from .payloads import BigIntegersAsText
from .points import NUMBER_BYTES
from .requests import Requests
from .sizes import MOST_REQUEST_MIB, LargePoints
from .target import UploadTarget

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

GREEN_SECONDS = 3600.0

Progress = Callable[[int, int], None]
"""Called with the number of points done, and the number of all points."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The result of an upload. `points` is the number of points in the collection, as the server counts them."""

    collection: str
    points: int
    delivered: Delivered
    as_text: int = 0
    """Points with integers beyond 64 bits, which were sent as text."""
    left_out: tuple[str, ...] = ()
    """Ids of chunks that are larger than a request may be."""
    others: int = 0
    """Points in the collection of other runs, or of earlier states of this one."""
    pruned: int = 0
    notices: tuple[str, ...] = ()
    """Lines for people, on points that were sent changed or not at all."""


def upload_run(
    path: str | PathLike[str],
    client: QdrantClient,
    collection: str | None = None,
    *,
    streams: int = 2,
    limits: BatchLimits | None = None,
    large: LargePoints | None = None,
    quantization: Quantization = None,
    options: CollectionOptions | None = None,
    indexes: Indexes | None = None,
    replace: bool = False,
    prune: bool = False,
    green_seconds: float = GREEN_SECONDS,
    progress: Progress | None = None,
) -> Uploaded:
    """Upload the run in the directory `path`, or at an address in object storage, to `collection` (default: the folder's name),
    which is created if missing.

    Points that are there with the same payload and all their vectors are not sent again. Indexing is off while points are
    loaded, and the index is built afterwards. `options` says how a new collection is kept, and `indexes` which payload fields
    have an index. `large` handles points above the server's limit on a request. With `replace`,
    a chunk with a generated id may overwrite another text. With `prune`, points of other runs are deleted.

    RunDirectoryError if the run is not done. UsageError if the collection has another schema, or other chunks under this
    run's generated ids. EmbedfleetError if the server fails, the index is not ready in time, or the final count is wrong.
    """
    root = run_folder(path)
    run = open_done_run(root)
    numbered = () if replace else NumberedIds(run.layout)
    requests = Requests(client, collection or collection_name(root))
    target = UploadTarget(requests)
    large = large or LargePoints(MOST_REQUEST_MIB << 20, NUMBER_BYTES[True], grpc=True)
    schema = collection_schema(run, quantization)
    target.prepare(schema, options, indexes, quantize=quantization is not None)
    target.index_payloads()
    delivery = Delivery(requests, numbered, has_points=target.before > 0)
    as_text = BigIntegersAsText()
    try:
        target.switch_indexing_off()  # inside: even if the answer is lost, the server may have obeyed
        points = large.take(as_text.take(run.points()))
        delivered = send_points(points, run.rows, delivery, streams, bound_batches(limits, large), progress)
        large.left_out += delivered.refused
        pruned = target.prune(point_id(one) for one in run.ids()) if prune else 0
    except BaseException:
        with contextlib.suppress(EmbedfleetError):  # the first error says more
            target.switch_indexing_on()
        raise
    target.switch_indexing_on()
    target.wait_until_green(green_seconds)
    there, due = target.count(), target.before + delivered.new - pruned
    if delivered.points + len(large.left_out) != run.rows or there != due:
        raise EmbedfleetError(
            f"{target.collection}: holds {there:,} points where {due:,} are due ({target.before:,} before, "
            f"{delivered.new:,} new of {run.rows:,}); if nobody else writes there, run the same command again"
        )
    others = target.count_ours() - delivered.points
    notices = [as_text.notice] if as_text.notice is not None else []
    notices += large.notices
    if others > 0:
        notices.append(
            f"{target.collection} has {pluralize(others, 'more point')}, of other runs or of an earlier state of this one; "
            "--prune deletes them"
        )
    left_out = tuple(large.left_out)
    return Uploaded(target.collection, there, delivered, as_text.points, left_out, others, pruned, tuple(notices))


def bound_batches(limits: BatchLimits | None, large: LargePoints) -> BatchLimits:
    """The limits (default: those of gRPC), with batches well below the largest request."""
    limits = limits or BatchLimits()
    return dataclasses.replace(limits, bytes=min(limits.bytes, large.most_bytes // 2))


def send_points(
    points: Iterable[Point],
    due: int,
    delivery: Delivery,
    streams: int,
    limits: BatchLimits,
    progress: Progress | None,
) -> Delivered:
    """Send points in batches, `streams` requests at a time. `progress` gets `due` as the number of all points.

    The first error of a batch is raised, and ends the others.
    """
    if delivery.in_process:
        streams = 1
    total = Delivered()
    pending: set[Future[Delivered]] = set()

    def collect(most_pending: int) -> None:
        """Wait until at most `most_pending` batches are in flight; raise the error of a failed one."""
        nonlocal total, pending
        while len(pending) > most_pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                total += future.result()
            if progress is not None:
                progress(total.points, due)

    with ThreadPoolExecutor(streams, "upload") as pool:
        try:
            for batch in cut(points, limits):
                collect(streams)  # one batch per stream, and one ready
                pending.add(pool.submit(delivery.send, batch))
            collect(0)
        except BaseException:
            delivery.stop()
            for future in pending:
                future.cancel()
            raise
    return total
