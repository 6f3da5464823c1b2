"""`embedfleet upload`: connect, upload, and show the progress on a terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import orjson

from ...protocol.errors import EXIT_DONE, EXIT_QUARANTINED
from ...protocol.finished_run.done_run import open_done_run
from ...protocol.finished_run.point_batches import BatchLimits
from ...protocol.index.collection import Quantization
from ..arguments import run_folder
from ..output.messages import messages
from ..output.upload_progress import UploadProgress
from ..upload.collection_options import CollectionOptions
from ..upload.payload_indexes import choose_indexes
from ..upload.points import NUMBER_BYTES
from ..upload.server import connect
from ..upload.sizes import LargePoints
from ..upload.uploader import upload_run


def upload(
    root: Path,
    url: str,
    collection: str | None,
    *,
    api_key_env: str | None,
    streams: int,
    batch_points: int,
    quantization: Quantization,
    options: CollectionOptions,
    payload_index: Sequence[str],
    grpc: bool,
    grpc_port: int,
    green_seconds: float,
    max_request: int,
    cut_payload: bool,
    replace: bool,
    prune: bool,
    as_json: bool,
) -> int:
    """Upload the run in `root` to the server at `url`, and return the exit code: 3 if a chunk was left out."""
    root = run_folder(root)
    indexes = choose_indexes(open_done_run(root), payload_index)  # before any server is contacted
    say = messages().say
    with (
        closing(connect(url, api_key_env, grpc=grpc, grpc_port=grpc_port)) as client,
        closing(UploadProgress()) as shown,
        ending_in_order() as ended,
    ):
        try:
            done = upload_run(
                root,
                client,
                collection,
                streams=streams,
                limits=BatchLimits(batch_points, number_bytes=NUMBER_BYTES[grpc]),
                large=LargePoints(max_request << 20, NUMBER_BYTES[grpc], grpc=grpc, cut=cut_payload),
                quantization=quantization,
                options=options,
                indexes=indexes,
                replace=replace,
                prune=prune,
                green_seconds=green_seconds,
                progress=shown.show,
            )
        except KeyboardInterrupt:
            if not ended:
                raise
            say("terminated; the same command sends what is missing")
            return 128 + ended[0]
    code = EXIT_QUARANTINED if done.left_out else EXIT_DONE
    for notice in done.notices:
        say(f"note: {notice}")
    if as_json:
        delivered = done.delivered
        counts = {
            "new": delivered.new,
            "replaced": delivered.replaced,
            "present": delivered.present,
            "spelled": done.as_text,
        }
        summary = {"collection": done.collection, "points": done.points, **counts}
        more = {"left_out": done.left_out, "others": done.others, "pruned": done.pruned, "payload_indexes": indexes}
        sys.stdout.buffer.write(orjson.dumps(summary | more) + b"\n")
        sys.stdout.flush()
        return code
    delivered = done.delivered
    indexed = ", ".join(f"{field} ({kind})" for field, kind in indexes.items())
    say(
        f"{done.collection}: {done.points:,} points, all counted and indexed; {delivered.new:,} new, "
        f"{delivered.replaced:,} replaced, {delivered.present:,} were there"
        + (f"; {done.pruned:,} others deleted" if done.pruned else "")
        + (f"; indexes on {indexed}" if indexed else "")
    )
    return code


@contextmanager
def ending_in_order() -> Generator[list[int]]:
    """Handle SIGTERM and SIGHUP (a closed terminal) as Ctrl-C, so that indexing is switched on again; yield a list that then
    holds the signal. Signals that are ignored (nohup) stay ignored."""
    ended: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        if not ended:  # a second signal must not interrupt the clean-up
            ended.append(number)
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
