"""Upload one shard of a directory, beside the uploads of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....protocol.errors import EmbedfleetError
from ....protocol.finished_run.point_batches import BatchLimits
from ....protocol.index.collection import Quantization, collection_name, collection_schema
from ....protocol.source.numbered_ids import NumberedIds
from ....protocol.spec.shard import Shard
from ..collection_options import CollectionOptions
from ..delivery import Delivered, Delivery
from ..payloads import BigIntegersAsText
from ..requests import Requests
from ..sizes import LargePoints
from ..target import UploadTarget
from ..uploader import Progress, Uploaded, bound_batches, send_points
from .marks import MARKS, count_shard
from .shard_runs import OtherShards, ShardRuns

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def upload_shard(
    runs: ShardRuns,
    shard: Shard,
    client: QdrantClient,
    collection: str | None,
    large: LargePoints,
    *,
    streams: int = 2,
    limits: BatchLimits | None = None,
    quantization: Quantization = None,
    options: CollectionOptions | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Uploaded:
    """Upload a shard to `collection` (default: the directory's name), which the first shard creates.

    Indexing is off afterwards, until `finish_upload`. Points that are there unchanged are not sent again. `points` of the
    result counts those of the shard. A shard without chunks changes nothing.

    RunDirectoryError if the shard is not done. UsageError if the collection has another schema, or for an id that is in
    another shard too. EmbedfleetError if the server fails, or the final count is wrong.
    """
    runs.check(shard)
    run = runs.open(shard.index)
    requests = Requests(client, collection or collection_name(runs.layout.root))
    if not run.segments:  # without vectors, it cannot say what the collection must have
        return Uploaded(requests.collection, 0, Delivered())
    target = UploadTarget(requests)
    target.prepare(collection_schema(run, quantization), options, MARKS, quantize=quantization is not None)
    target.index_payloads()
    if target.is_indexing:
        target.switch_indexing_off()
    delivery = Delivery(
        requests, () if replace else NumberedIds(run.layout), check=OtherShards(runs, shard.index).check
    )
    as_text = BigIntegersAsText()
    points = large.take(as_text.take(runs.points(run, shard.index)))
    delivered = send_points(points, run.rows, delivery, streams, bound_batches(limits, large), progress)
    large.left_out += delivered.refused
    there = count_shard(requests, shard.index, runs.digests(shard.index))
    if delivered.points + len(large.left_out) != run.rows or there < delivered.points:
        raise EmbedfleetError(
            f"{requests.collection}: holds {there:,} points of shard {shard} where {delivered.points:,} were sent or there; "
            "run the same command again, which names the chunk if its id stands in another shard too"
        )
    notices = (*([as_text.notice] if as_text.notice is not None else []), *large.notices)
    return Uploaded(requests.collection, there, delivered, as_text.points, tuple(large.left_out), notices=notices)
