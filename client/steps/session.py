"""Session: the steps of one command, as runs of its coordinator and child processes. Signals end them cleanly."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import (
    EXIT_INTERRUPTED,
    EmbedfleetError,
    RunFailed,
    Unreachable,
    UsageError,
    describe_exit,
)
from ...protocol.process.child import STEADY_MEMORY, ChildProcess, exit_error
from ...protocol.process.stop_signals import catching_signals
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.control import RunEnded
from ...protocol.wire.run_options import DEFAULTS, RunOptions
from ..client import Client
from ..output.event_view import EventView
from ..output.interruption import drain_notice, the_same, uncommitted_notice
from ..output.messages import messages
from ..output.progress import ProgressView, make_view
from .private_coordinator import PrivateCoordinator

POLL_SECONDS = 0.1
STOP_SECONDS = 10.0
GRACE_SECONDS = 25.0
"""Default drain time after SIGTERM and SIGHUP, in seconds. Schedulers kill after 30."""


class Interrupted(Exception):
    """A signal ended the current step."""


@dataclass(frozen=True, slots=True)
class SubmittedRun:
    """A run that the coordinator has accepted. `command` is what resumes it, in words."""

    name: str
    spec: RunSpec
    out: Path
    command: str


class Session:
    """One command. `received` lists the signals so far: the first stops the step in order, a second ends everything at
    once."""

    def __init__(
        self,
        client: Client,
        coordinator: PrivateCoordinator,
        received: list[int],
        views: Callable[[str], ProgressView] = make_view,
        options: RunOptions = DEFAULTS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._client, self._coordinator, self.received = client, coordinator, received
        self._options, self._grace = options, grace
        self._views = views
        self._view: ProgressView | None = None
        self.submitted = False
        """Whether the coordinator has accepted a run, and so may have written to its directory."""
        self._traceparent = ""
        """The span of the session's first run, parent of all later spans."""

    @property
    def has_coordinator(self) -> bool:
        """Whether its coordinator lives: without it, no run can begin."""
        return self._coordinator.exit_code() is None

    @property
    def exit_code(self) -> int:
        """The exit code of a command that a signal ended."""
        return 128 + self.received[0] if self.received else EXIT_INTERRUPTED

    def say(self, text: str) -> None:
        """Show one line of text."""
        (self._view or self._views("rows")).say(text)

    def follow(
        self, spec: RunSpec, out: Path, *, restart: bool = False, unit: str = "rows", later: Sequence[PassSpec] = ()
    ) -> RunEnded | None:
        """Submit a run and watch it to its end, see `submit` and `watch`."""
        return self.watch(self.submit(spec, out, restart=restart, later=later), unit=unit)

    def submit(
        self, spec: RunSpec, out: Path, *, restart: bool = False, later: Sequence[PassSpec] = ()
    ) -> SubmittedRun:
        """Queue a run. `later` are passes of later runs, whose models are checked with this run's."""
        above = self._traceparent
        try:
            run = self._client.submit(spec, out, restart=restart, options=self._options, later=later, traceparent=above)
        except Unreachable:  # its remedy is for a coordinator that the user started
            raise self._lost(the_same(restart)) from None
        self._traceparent = above or self._client.traceparent
        self.submitted = True
        return SubmittedRun(run, spec, out, the_same(restart))

    def watch(
        self, run: SubmittedRun, *, unit: str = "rows", meanwhile: Callable[[], None] = lambda: None
    ) -> RunEnded | None:
        """Show the progress of a run until it ends; None if a second signal ended it at once.

        `unit` is what its rows are. `meanwhile` is called several times a second.
        """
        self._view = view = self._views(unit)
        if messages().wants_details:
            self._view = view = EventView(view, RunLayout(run.out).events)
        try:
            return self._watch(run, view, meanwhile)
        finally:
            view.close()

    def cancel(self, run: SubmittedRun) -> None:
        """Stop a run in order; nothing happens if it has ended."""
        if self.has_coordinator:
            with contextlib.suppress(UsageError):  # it has ended, and the message has not arrived yet
                self._client.cancel(run.name)

    @contextmanager
    def stage(self, name: str) -> Generator[dict[str, int | float | str]]:
        """A step outside the coordinator, exported as a span if spans are on. The block puts the span's attributes into the
        dict: counts, bytes, seconds."""
        fields: dict[str, int | float | str] = {}
        begin, error = time.time(), ""
        try:
            yield fields
        except BaseException as failure:
            error = str(failure) or type(failure).__name__
            raise
        finally:
            if self._traceparent and self.has_coordinator:
                with contextlib.suppress(EmbedfleetError):
                    self._client.stage_done(name, begin, time.time(), fields, error, self._traceparent)

    def process(self, module: str, arguments: Sequence[str]) -> int:
        """Run `python -m MODULE ARGUMENTS` to its end, and return its peak of resident memory in bytes.

        Raises Interrupted after a signal, or else the error that the process reports.
        """
        if self.received:
            raise Interrupted
        child = ChildProcess(module, arguments, environment=STEADY_MEMORY)
        peak = 0
        try:
            while (code := child.wait(POLL_SECONDS)) is None:
                peak = max(peak, child.peak_bytes())
                if self.received:
                    child.interrupt()  # it removes the files that it is writing
                    self._let_end(child)
                    raise Interrupted
            stderr = child.tail()
        finally:
            child.close()
        if code == EXIT_INTERRUPTED or (code and self.received):  # a terminal sends signals to both
            raise Interrupted
        if code < 0:
            raise EmbedfleetError(f"{module} was {describe_exit(code)}; the same command resumes")
        if code:
            raise exit_error(code, stderr, f"{module} ended with exit code {code}")
        return peak

    def _let_end(self, child: ChildProcess) -> None:
        """Wait for the child to end, until a second signal or the end of the drain time. Then the caller kills it."""
        end = time.monotonic() + (min(STOP_SECONDS, self._grace) if self.is_terminated else STOP_SECONDS)
        while len(self.received) < 2 and time.monotonic() < end and child.wait(POLL_SECONDS) is None:
            pass

    def _watch(self, run: SubmittedRun, view: ProgressView, meanwhile: Callable[[], None]) -> RunEnded | None:
        client, coordinator = self._client, self._coordinator
        client.start_watch(run.name)
        draining: float | None = None
        in_flight = 0
        computed: dict[str, int] = {}
        while True:
            message = client.receive(POLL_SECONDS)
            if message is not None and message.run != run.name:  # of the run before
                continue
            if isinstance(message, RunEnded):
                if message.status != "done":
                    _say_uncommitted(view, run, {one.vector: (one.chunks, one.uncommitted) for one in message.passes})
                return message
            meanwhile()
            if message is not None:
                view.show(message)
                computed = {one.vector: one.rows_done for one in message.passes}
                in_flight = sum(one.in_flight for one in message.passes)
            if self.received and draining is None:
                draining = time.monotonic()
                grace = self._grace if self.is_terminated else None
                view.say(drain_notice(in_flight, self._options.batch_timeout, grace))
                self.cancel(run)
            if len(self.received) > 1 or self._overdue(draining):
                coordinator.kill()
                _say_uncommitted(view, run, _on_disk(run, computed))
                return None
            if message is None and coordinator.exit_code() is not None:
                raise self._lost(run.command)

    def _lost(self, command: str) -> RunFailed:
        """The error for a coordinator that has ended, or does not answer."""
        code = self._coordinator.exit_code()
        what = "does not answer" if code is None else f"ended ({describe_exit(code)})"
        tail = self._coordinator.tail()[-1000:]
        return RunFailed(f"the coordinator {what}. What was committed stays; {command} resumes. {tail}".strip())

    def _overdue(self, draining: float | None) -> bool:
        """Whether the drain time is over. There is none after Ctrl-C, since the user can press it again."""
        return self.is_terminated and draining is not None and time.monotonic() - draining > self._grace

    @property
    def is_terminated(self) -> bool:
        """Whether the first signal was another one than that of Ctrl-C: the drain time is then limited."""
        return bool(self.received) and self.received[0] != signal.SIGINT


def _on_disk(run: SubmittedRun, computed: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """The committed rows by pass, counted on disk: segments may be newer than the last report."""
    from ..run_directory.running import split_by_commit  # late: it reads Parquet

    return split_by_commit(RunLayout(run.out), run.spec, computed)


def _say_uncommitted(view: ProgressView, run: SubmittedRun, rows: Mapping[str, tuple[int, int]]) -> None:
    if notice := uncommitted_notice(rows, run.command):
        view.say(notice)


def memory_field(peak: int) -> dict[str, int | float | str]:
    """The attribute with the peak memory of a stage's process, in bytes; empty if it is not known."""
    return {"memory.peak_bytes": peak} if peak else {}


@contextmanager
def open_session(
    *,
    devices: str | None,
    otlp: str | None,
    share_stdin: bool,
    views: Callable[[str], ProgressView] = make_view,
    options: RunOptions = DEFAULTS,
    grace: float = GRACE_SECONDS,
) -> Generator[Session]:
    """A session with a private coordinator, which ends with the block. `views` makes the progress view of each run, from what
    its rows are: `rows`, `queries` or `pairs`."""
    with catching_signals() as received:
        coordinator = PrivateCoordinator(devices, otlp=otlp, share_stdin=share_stdin)
        with coordinator, Client(coordinator.address) as client:
            session = Session(client, coordinator, received, views, options, grace)
            yield session
        for line in coordinator.last_words:
            session.say(line)
