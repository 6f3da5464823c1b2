"""`embedfleet run`: a private coordinator, a submission, a watch, and an end, in one."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import orjson

from ..protocol.control_messages import RunEnded
from ..protocol.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_QUARANTINED,
    EXIT_TERMINATED,
    RunFailed,
    revive,
)
from ..protocol.spec import RunSpec
from .client import Client
from .private_coordinator import PrivateCoordinator
from .progress import ProgressView, make_view

POLL_SECONDS = 0.1


def run(spec: RunSpec, out: Path, *, devices: str | None, restart: bool, as_json: bool) -> int:
    """Embed the corpus; the exit code. The first signal drains, a second one ends everything at once."""
    with _signals() as received, PrivateCoordinator(devices, share_stdin=spec.source == "-") as coordinator:
        view = make_view()
        try:
            with Client(coordinator.address) as client:
                ending = _follow(client, coordinator, client.submit(spec, out, restart=restart), received, view)
        finally:
            view.close()
    if ending is None:
        view.say("stopped at once; what was committed stays, the same command resumes")
        return _interrupted(received)
    return _conclude(ending, out, received, as_json, view)


def _follow(
    client: Client, coordinator: PrivateCoordinator, run: str, received: list[int], view: ProgressView
) -> RunEnded | None:
    """Show the run until it ends; None if a second signal asked to end at once."""
    client.start_watch(run)
    draining = False
    while True:
        message = client.receive(POLL_SECONDS)
        if isinstance(message, RunEnded):
            return message
        if message is not None:
            view.show(message)
        if received and not draining:
            draining = True
            view.say("finishing the batches in flight; once more to stop at once")
            client.cancel(run)
        if len(received) > 1:
            coordinator.kill()
            return None
        if message is None and coordinator.exit_code() is not None:
            raise RunFailed(
                f"the coordinator ended (exit code {coordinator.exit_code()}). What was committed stays; "
                f"the same command resumes. {coordinator.tail()[-1000:]}".strip()
            )


def _conclude(ending: RunEnded, out: Path, received: list[int], as_json: bool, view: ProgressView) -> int:
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(summary(ending)) + b"\n")
        sys.stdout.flush()
    if ending.status == "failed":
        raise revive(ending.kind, ending.error)
    for one in ending.passes:
        if not one.chunks_per_second and ending.status == "done":
            view.say(
                f"{one.vector}: nothing to compute"
                + (f", {one.chunks:,} chunks were committed before" * bool(one.chunks))
            )
            continue
        view.say(
            f"{one.vector}: {one.chunks:,} chunks, {one.chunks_per_second:,.1f}/s, {one.tokens_per_second:,.0f} tokens/s, "
            f"padding {one.padding:.1%}, on {one.device or 'no device'}"
        )
    left = ending.chunks - ending.committed - ending.quarantined
    view.say(
        f"{ending.chunks:,} read = {ending.committed:,} committed + {ending.quarantined:,} quarantined"
        + (f" + {left:,} to be computed" if left else "")
        + f"; {ending.skipped_duplicates:,} duplicates skipped; {ending.seconds:,.1f} s"
    )
    if ending.status == "interrupted":
        view.say(f"interrupted; the same command resumes in {out}")
        return _interrupted(received)
    if ending.quarantined:
        view.say(f"in quarantine: {ending.quarantined:,}, each with its reason in {out / 'quarantine.jsonl'}")
        for reason, count in _frequent_reasons(out):
            view.say(f"  {count:,} times: {reason}")
        return EXIT_QUARANTINED
    return EXIT_DONE


def _frequent_reasons(out: Path) -> list[tuple[str, int]]:
    """The three reasons that stand most often in the quarantine."""
    try:
        with (out / "quarantine.jsonl").open("rb") as lines:
            counts = Counter(str(orjson.loads(line)["reason"])[:120] for line in lines)
    except (OSError, KeyError, orjson.JSONDecodeError):
        return []  # on another host, perhaps: the file itself is named above
    return counts.most_common(3)


def summary(ending: RunEnded) -> dict[str, object]:
    """The object that `--json` prints."""
    return {
        "run": ending.run,
        "status": ending.status,
        "chunks": ending.chunks,
        "committed": ending.committed,
        "quarantined": ending.quarantined,
        "skipped_duplicates": ending.skipped_duplicates,
        "seconds": ending.seconds,
        "passes": [
            {
                "vector": one.vector,
                "model": one.model,
                "device": one.device,
                "chunks": one.chunks,
                "chunks_per_second": one.chunks_per_second,
                "tokens_per_second": one.tokens_per_second,
                "padding": one.padding,
                "rotation_gap_seconds": one.rotation_gap_seconds,
            }
            for one in ending.passes
        ],
        **({"error": ending.error} if ending.error else {}),
    }


def _interrupted(received: list[int]) -> int:
    return EXIT_TERMINATED if received and received[0] == signal.SIGTERM else EXIT_INTERRUPTED


@contextmanager
def _signals() -> Generator[list[int]]:
    """SIGINT and SIGTERM only append to the list; the loop acts on it. A third one falls back to the usual."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 2:
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
