"""`embedfleet upload`: connect, upload, and show the progress on a terminal."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ...protocol.errors import EXIT_DONE, EXIT_QUARANTINED, RunDirectoryError, UsageError
from ...protocol.finished_run.done_run import DoneRun, open_done_run
from ...protocol.object_storage.address import with_addresses
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.shards import read_shards
from ..arguments import run_folder
from ..output.json_output import print_json
from ..output.messages import messages
from ..output.upload_progress import UploadProgress
from ..upload.payload_indexes import Indexes, choose_indexes
from ..upload.uploader import Progress, Uploaded, upload_run
from .upload_request import UploadRequest

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

T = TypeVar("T")


def upload(request: UploadRequest) -> int:
    """Upload a run, and return the exit code: 3 if a chunk was left out."""
    request = replace(request, root=run_folder(request.root))
    run = _open_whole(request)
    indexes = choose_indexes(run, request.payload_index)  # before any server is contacted

    def work(client: QdrantClient, progress: Progress) -> Uploaded:
        return upload_run(
            request.root,
            client,
            request.collection,
            streams=request.streams,
            limits=request.limits,
            large=request.large_points(),
            quantization=request.quantization,
            options=request.options,
            indexes=indexes,
            replace=request.replace,
            prune=request.prune,
            green_seconds=request.green_seconds,
            progress=progress,
        )

    done = with_server(request, work)
    show_notes(done.notices)
    if request.as_json:
        more = {"others": done.others, "pruned": done.pruned, "payload_indexes": indexes}
        print_json(as_json(done) | more)
    else:
        messages().say(
            f"{done.collection}: {done.points:,} points, all counted and indexed; {sent(done)}"
            + (f"; {done.pruned:,} others deleted" if done.pruned else "")
            + named_indexes(indexes)
        )
    return exit_code(done.left_out)


def _open_whole(request: UploadRequest) -> DoneRun:
    """The run. RunDirectoryError or UsageError, with the commands to give, if it is a shard, or made of shards that are not
    merged."""
    layout = RunLayout(request.root)
    if not layout.spec.exists() and (record := read_shards(layout)) is not None:
        raise RunDirectoryError(
            f"{request.root}: its {record.shards:,} shards are not merged. `embedfleet merge {request.root}` makes one run of "
            f"them; or upload each with --shard I/{record.shards}, and then finish with --finish"
        )
    run = open_done_run(request.root)
    if run.spec.shard is not None:
        shown = with_addresses(str(request.root.absolute()))
        raise UsageError(
            f"{request.root}: is a shard; upload it by `embedfleet upload {shown.rsplit('/', 2)[0]} --shard {run.spec.shard}`, "
            "and once all "
            "shards are uploaded, finish with --finish"
        )
    return run


def with_server(request: UploadRequest, work: Callable[[QdrantClient, Progress], T], *, indexing: bool = True) -> T:
    """The result of `work`, with progress shown. `indexing`: the server builds its index at the end. A signal ends the
    command."""
    with (
        request.connected() as client,
        closing(UploadProgress(indexing=indexing)) as shown,
        ending_in_order() as ended,
    ):
        try:
            return work(client, shown.show)
        except KeyboardInterrupt:
            if not ended:
                raise
            messages().say("terminated; the same command sends what is missing")
            raise typer.Exit(128 + ended[0]) from None


def show_notes(notices: tuple[str, ...]) -> None:
    for notice in notices:
        messages().say(f"note: {notice}")


def sent(done: Uploaded) -> str:
    """The counts of points that were sent, in words."""
    one = done.delivered
    return f"{one.new:,} new, {one.replaced:,} replaced, {one.present:,} were there"


def as_json(done: Uploaded) -> dict[str, Any]:
    """The fields that every upload has."""
    one = done.delivered
    counts = {"new": one.new, "replaced": one.replaced, "present": one.present, "spelled": done.as_text}
    return {"collection": done.collection, "points": done.points, **counts, "left_out": done.left_out}


def named_indexes(indexes: Indexes) -> str:
    """The end of a line that names them; empty without any."""
    return "; indexes on " + ", ".join(f"{field} ({kind})" for field, kind in indexes.items()) if indexes else ""


def exit_code(left_out: tuple[str, ...]) -> int:
    return EXIT_QUARANTINED if left_out else EXIT_DONE


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
