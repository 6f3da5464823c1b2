"""One run from submission to its end through a private coordinator: what `embedfleet run` and the Embedder share."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ..protocol.control_messages import RunEnded
from ..protocol.errors import RunFailed
from ..protocol.spec import RunSpec
from .client import Client
from .private_coordinator import PrivateCoordinator
from .progress import ProgressView

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Followed:
    """How a run went. `ending` is None where a second signal ended it at once; `signals` are those that came."""

    ending: RunEnded | None
    signals: list[int]


def follow_run(
    spec: RunSpec, out: Path, *, devices: str | None, restart: bool, otlp: str | None, view: ProgressView
) -> Followed:
    """Embed the corpus. The first signal drains, a second one ends everything at once.

    Raises what the coordinator refuses, and RunFailed where it dies. A run that fails is told in its ending.
    """
    with _signals() as received:
        coordinator = PrivateCoordinator(devices, otlp=otlp, share_stdin=spec.source == "-")
        try:
            with coordinator:
                with Client(coordinator.address) as client:
                    run = client.submit(spec, out, restart=restart)
                    ending = _follow(client, coordinator, run, received, view)
        finally:
            view.close()
        for line in coordinator.last_words:
            view.say(line)
    return Followed(ending, received)


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


@contextmanager
def _signals() -> Generator[list[int]]:
    """SIGINT and SIGTERM only append to the list; the loop acts on it. A third one falls back to the usual.

    Python lets the main thread alone handle signals: elsewhere the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
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
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
