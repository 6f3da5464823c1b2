"""`embedfleet upload DIR --shard I/N` and `--finish`: upload one shard into a collection, and finish the collection."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..output.formatting import pluralize
from ..output.json_output import print_json
from ..output.messages import messages
from ..upload.payload_indexes import choose_indexes_of
from ..upload.shards.finish import Finished, finish_upload
from ..upload.shards.shard_runs import SHARD_FIELDS, open_shards
from ..upload.shards.shard_upload import upload_shard
from ..upload.uploader import Progress, Uploaded
from .upload_command import as_json, exit_code, named_indexes, sent, show_notes, with_server
from .upload_request import UploadRequest

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


def upload_one_shard(request: UploadRequest) -> int:
    """Upload one shard, and return the exit code."""
    shard = request.shard
    assert shard is not None
    runs = open_shards(request.root, shard.index)
    runs.check(shard)
    rows = runs.open(shard.index).rows  # before any server is contacted

    def work(client: QdrantClient, progress: Progress) -> Uploaded:
        return upload_shard(
            runs,
            shard,
            client,
            request.collection,
            request.large_points(),
            streams=request.streams,
            limits=request.limits,
            quantization=request.quantization,
            options=request.options,
            replace=request.replace,
            progress=progress,
        )

    done = with_server(request, work, indexing=False)
    show_notes(done.notices)
    if request.as_json:
        print_json(as_json(done) | {"shard": str(shard)})
    else:
        state = f"{pluralize(done.points, 'point')}, all counted; {sent(done)}" if rows else "has no chunks"
        messages().say(f"{done.collection}: shard {shard}: {state}")
        messages().say("next: once all shards are uploaded, the same command with --finish in place of --shard")
    return exit_code(done.left_out)


def finish_shards(request: UploadRequest) -> int:
    """Finish an upload in shards, and return the exit code."""
    runs = open_shards(request.root)
    request = replace(request, root=runs.layout.root)
    opened = runs.open_all()
    indexes = choose_indexes_of(opened, request.payload_index, SHARD_FIELDS)

    def work(client: QdrantClient, progress: Progress) -> Finished:
        return finish_upload(
            runs,
            opened,
            client,
            request.collection,
            request.large_points(),
            request.shard_command,
            quantization=request.quantization,
            options=request.options,
            indexes=indexes,
            prune=request.prune,
            green_seconds=request.green_seconds,
            progress=progress,
        )

    done = with_server(request, work)
    show_notes(done.notices)
    if request.as_json:
        counts = {"collection": done.collection, "points": done.points, "shards": runs.count}
        more = {"left_out": done.left_out, "others": done.others, "pruned": done.pruned, "payload_indexes": indexes}
        print_json(counts | more)
    else:
        messages().say(
            f"{done.collection}: {done.points:,} points of {pluralize(runs.count, 'shard')}, all counted and indexed"
            + (f"; {done.pruned:,} others deleted" if done.pruned else "")
            + named_indexes(indexes)
        )
    return exit_code(done.left_out)
