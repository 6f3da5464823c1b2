"""The coordinator's loop: gather events, let the pool decide, perform its actions. One thread, no waiting but in one poll.

gather    control, hosts, work and export links · workers' and exporter's ends · intake · signals · the clock
decide    Pool.handle(event, now) → actions
perform   each action by the part that it concerns
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import zmq

from ..protocol.errors import DamagedChunks, EmbedfleetError, UsageError
from ..protocol.spec.known_models import check_known
from ..protocol.spec.run_spec import PassSpec, RunSpec, check_path, check_spec
from ..protocol.version import PROTOCOL, __version__
from ..protocol.wire import channels
from ..protocol.wire.channels import Address
from ..protocol.wire.codec import check_version
from ..protocol.wire.control import (
    Accepted,
    Cancel,
    ClientHello,
    DeviceState,
    GetStatus,
    Refused,
    RunState,
    StageDone,
    Status,
    Submit,
    ToCoordinator,
    Watch,
    Welcome,
)
from ..protocol.wire.run_options import check_options
from .core import actions, events
from .core.pool import Pool
from .core.state import PoolConfig, WorkerStage
from .hosts.connection_cap import ConnectionCap, connections_allowed
from .hosts.registry import Hosts
from .links.context import Context
from .links.control_server import ControlServer
from .links.exporter_link import ExporterLinks
from .links.host_link import HostLink
from .links.worker_link import WorkerLink
from .runs.batch_runner import BatchRunner
from .runs.extras import check_extras
from .runs.failures import failure
from .runs.model_checks import ModelChecks, later_spec, passes_to_check
from .runs.sparse_placement import place_sparse
from .telemetry.notices import Notices
from .telemetry.observer import Observers

TICK_SECONDS = 0.1
PROGRESS_SECONDS = 0.5
DRAIN_SECONDS = 60.0
"""After a signal: how long runs may take to finish what is in flight, where nobody says another `grace`."""


class Coordinator:
    """One fleet. `signals` is a list that signal handlers append to; `say` tells people what happens."""

    def __init__(
        self,
        address: Address,
        hosts: Callable[[zmq.Context[Any]], Hosts],
        private_folder: Path,
        say: Callable[[str], None],
        observers: Observers | None = None,
        grace: float = DRAIN_SECONDS,
    ) -> None:
        self._say, self._grace = say, grace
        self.signals: list[int] = []
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        work = channels.bind(self._zmq, zmq.ROUTER, address.work)
        epochs = PoolConfig(first_epoch=time.time_ns() // 1_000_000)
        self._context = Context(Pool(epochs), hosts(self._zmq), work)
        self._control = ControlServer(self._zmq, address.control)
        self._folder, self._observers = private_folder, observers
        self._endpoints = (address.control, address.hosts, address.work)
        self._outs: dict[str, Path] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller = zmq.Poller()
        listening = (self._control.socket, self._context.hosts.socket, work)
        self._caps = [ConnectionCap(one, connections_allowed()) for one in listening]
        for source in (*listening, *(cap.monitor for cap in self._caps), self._wake_read):
            self._poller.register(source, zmq.POLLIN)
        self._watched: set[Any] = set()
        self._workers = WorkerLink(self._context)
        self._hosts = HostLink(self._context)
        self._exporters = ExporterLinks(self._context)
        self._model_checks = ModelChecks()
        self._stopping_since: float | None = None
        self._notices = Notices()
        local = self._context.hosts.local
        if local is not None:
            self._context.emit(events.HostJoined(local.host, local.devices))

    @property
    def wake_fd(self) -> int:
        """A byte written here ends the poll: for `signal.set_wakeup_fd` and other threads."""
        return self._wake_write

    def wake(self) -> None:
        """End the poll; from any thread."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wakes already
            os.write(self._wake_write, b".")

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT and the drain after it; a second signal ends the drain."""
        tick = told = 0.0
        while not self._stopped():
            self._gather()
            now = time.monotonic()
            if now - tick >= TICK_SECONDS:
                tick = now
                self._context.queue.extend(self._context.hosts.silent(now))
                self._context.emit(events.Tick())
            self._decide()
            if now - told >= PROGRESS_SECONDS:
                told = now
                self._tell_progress()

    def close(self) -> None:
        """End every child and free every socket."""
        self._model_checks.close()
        for runner in self._context.runs.values():
            runner.finish()
            runner.telemetry.over("interrupted", "the coordinator ended")
        for cap in self._caps:
            cap.close()
        self._context.hosts.close()
        self._control.close()
        self._context.work.close(linger=0)
        self._zmq.term()
        for endpoint in self._endpoints:
            channels.unlink_socket(endpoint)

    def status_of(self, run: str) -> str:
        """The run's status for people."""
        found = self._context.fleet.runs.get(run)
        return found.status.value if found is not None else "ended"

    def _gather(self) -> None:
        self._watch_children()
        ready = dict(self._poller.poll(max(1, int(TICK_SECONDS * 1000))))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for cap in self._caps:
            if cap.monitor in ready:
                cap.enforce()
        for client, request in self._control.receive():
            self._request(client, request)
        self._workers.gather()  # before the hosts: what a worker said counts before its end
        self._hosts.gather(time.monotonic())
        self._exporters.gather()
        for checked in self._model_checks.take(time.monotonic()):
            if checked.trouble:
                self._tell_unchecked(checked.event.run, checked.trouble)
            self._context.emit(checked.event)
        for runner in list(self._context.runs.values()):
            while runner.intake_events:
                event = runner.intake_events.popleft()
                if isinstance(event, DamagedChunks):
                    event = failure(runner, event)
                if isinstance(event, events.SegmentSpooled):
                    runner.segment_spooled(event)
                elif isinstance(event, events.IntakeDone):
                    runner.source_read()
                self._context.emit(event)

    def _decide(self) -> None:
        while self._context.queue:
            event = self._context.queue.popleft()
            for action in self._context.pool.handle(event, time.monotonic()):
                try:
                    self._perform(action)
                except (EmbedfleetError, OSError, ValueError) as error:  # of the run's files; pyarrow's are ValueErrors
                    self._give_up(action, error)

    def _give_up(self, action: actions.Action, error: Exception) -> None:
        """One run's trouble is not the others': it fails with the message."""
        run = getattr(action, "run", "")
        if run not in self._context.runs or isinstance(action, actions.RunOver):
            raise error
        self._context.emit(failure(self._context.runs[run], error))
        if isinstance(action, actions.OpenRun | actions.CloseRun):
            self._context.emit(events.RunClosed(run))

    def _perform(self, action: actions.Action) -> None:
        match action:
            case actions.SendBatch():
                self._workers.sent(action)
                self._context.send(action.worker, self._context.runs[action.run].batch(action))
            case actions.ForwardResult():
                self._context.runs[action.run].forward(action)
            case actions.CutSegment():
                cuts = self._context.runs[action.run].cut(action.number, action.segment)
                self._context.emit(events.SegmentCut(action.run, action.number, action.segment, cuts))
            case actions.SpawnWorker():
                self._hosts.spawn(action)
            case actions.KillWorker():
                self._context.hosts.kill(action.worker, action.host)
            case actions.StageWorker() | actions.HydrateWorker() | actions.ReleaseWorker():
                self._workers.command(action)
            case actions.QuarantineRows():
                self._context.runs[action.run].quarantine(action)
            case actions.PrepareRun():
                self._context.runs[action.run].prepare(self._zmq, self._new_endpoint())
            case actions.OpenRun():
                self._context.runs[action.run].open(self._zmq, self._new_endpoint())
            case actions.StartIntake():
                self._context.runs[action.run].start_intake(self._context.devices())
            case actions.CloseRun():
                self._context.runs[action.run].close(action.status, action.error)
            case actions.RunOver():
                self._over(action)
            case actions.Note():
                current = self._context.fleet.current
                if current is not None:
                    self._context.runs[current.name].telemetry.event(action.event, **action.fields)
                for text in self._notices.tell(action.event, action.fields, time.monotonic()):
                    self._say(text)

    def _new_endpoint(self) -> str:
        """An endpoint that no exporter has now."""
        used = {runner.link.endpoint for runner in self._context.runs.values() if runner.link is not None}
        return next(one for number in count(1) if (one := f"ipc://{self._folder}/export-{number}") not in used)

    def _over(self, action: actions.RunOver) -> None:
        runner = self._context.runs.pop(action.run)
        del self._outs[action.run]
        runner.finish()
        self._model_checks.end(action.run)
        progress = runner.progress(action.status, [(action.status, 0)] * len(runner.spec.passes), end=True)
        if progress.notices or action.status == "done":
            self._control.tell(progress)
        self._control.tell_end(runner.ended(action.status, action.kind, action.error))  # before any message is written
        for text in self._notices.due(time.monotonic(), end=True):
            self._say(text)
        self._say(f"run {action.run}: {action.status}" + (f": {action.error}" if action.error else ""))

    def _request(self, client: bytes, request: ToCoordinator | EmbedfleetError) -> None:
        try:
            if isinstance(request, EmbedfleetError):
                raise request
            self._serve(client, request)
        except (EmbedfleetError, OSError, ValueError) as error:  # a path that nobody can open, for one
            number = 0 if isinstance(request, EmbedfleetError) else request.request
            kind = type(error).__name__ if isinstance(error, EmbedfleetError) else "UsageError"
            self._control.answer(client, Refused(number, kind, str(error)))

    def _serve(self, client: bytes, request: ToCoordinator) -> None:
        match request:
            case ClientHello():
                check_version("this client", request.protocol, request.build, PROTOCOL, __version__)
                self._control.answer(client, Welcome(request.request, PROTOCOL, __version__))
            case Submit():
                self._control.answer(client, Accepted(request.request, self._submit(request)))
            case Watch():
                if request.run not in self._context.runs and request.run not in self._control.endings:
                    raise UsageError(f"run {request.run!r} is not known here; it may have ended long ago")
                self._control.answer(client, Accepted(request.request, request.run))
                self._control.watch(client, request.run)
            case Cancel():
                if request.run not in self._context.runs:
                    raise UsageError(f"run {request.run!r} is not running here")
                self._context.emit(events.RunCancelled(request.run, "cancelled"))
                self._control.answer(client, Accepted(request.request, request.run))
            case StageDone():
                if self._observers is not None:
                    self._observers.stage(request)
                self._control.answer(client, Accepted(request.request, ""))
            case GetStatus():
                self._control.answer(client, self._status(request.request))

    def _submit(self, request: Submit) -> str:
        if self._stopping_since is not None:
            raise UsageError("the coordinator is shutting down")
        check_spec(request.spec)
        check_known(request.spec)
        check_known(later_spec(request))
        check_options(request.options)
        check_extras(request.spec)
        check_path(request.out, "out")
        out = Path(request.out)
        placed = place_sparse(request.spec, request.options, self._context.devices(), out)
        if not out.is_absolute():
            raise UsageError(f"out {request.out!r}: give an absolute path; it is on the coordinator's host")
        busy = next((run for run, path in self._outs.items() if path == out), None)
        if busy is not None:
            raise UsageError(f"--out {out}: run {busy} is writing there")
        # Where all devices are on other hosts, so may be the models: not here, then.
        asked = passes_to_check(request) if self._context.hosts.local is not None else ()
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        observers = self._observers
        observer = observers.run(run, request.spec, request.traceparent) if observers is not None else None
        self._context.runs[run] = BatchRunner(
            run,
            request.spec,
            out,
            restart=request.restart,
            options=placed.options,
            wake=self.wake,
            observer=observer,
        )
        self._outs[run] = out
        if placed.reason:
            self._context.runs[run].telemetry.event("sparse_placed", reason=placed.reason)
        unchecked = bool(asked) and self._look_at_models(run, request.spec, asked)
        self._context.runs[run].run_exclusive_ensemble(self._context.emit, unchecked=unchecked)
        self._say(f"run {run}: {request.spec.source} into {out}")
        return run

    def _look_at_models(self, run: str, spec: RunSpec, asked: Sequence[PassSpec]) -> bool:
        """Whether ModelsChecked will follow."""
        try:
            self._model_checks.start(run, spec, asked)
        except OSError as error:
            self._tell_unchecked(run, str(error))
            return False
        return True

    def _tell_unchecked(self, run: str, reason: str) -> None:
        self._context.runs[run].telemetry.event("models_unchecked", reason=reason)
        for text in self._notices.tell("models_unchecked", {"reason": reason}, time.monotonic()):
            self._say(text)

    def _status(self, number: int) -> Status:
        fleet = self._context.fleet
        runs = tuple(
            RunState(run=run, status=self.status_of(run), out=str(self._outs[run])) for run in self._context.runs
        )
        devices: list[DeviceState] = []
        for slot in fleet.devices.values():
            worker = fleet.workers.get(slot.active or "")
            vector = (
                fleet.runs[worker.run].passes[worker.number].plan.vector if worker and worker.run in fleet.runs else ""
            )
            bad = slot.bad or "; ".join(slot.refused.values())
            devices.append(
                DeviceState(uuid=slot.device.uuid, name=slot.device.name, host=slot.host, working=vector, bad=bad)
            )
        return Status(request=number, runs=runs, devices=tuple(devices))

    def _tell_progress(self) -> None:
        fleet = self._context.fleet
        for text in self._notices.due(time.monotonic()):
            self._say(text)
        for name, runner in self._context.runs.items():
            found = fleet.runs.get(name)
            if found is None:
                continue
            if found is fleet.current:
                runner.telemetry.look_at_host()
            passes: list[tuple[str, int]] = []
            for number, one in enumerate(found.passes):
                mine = [worker for worker in fleet.workers.values() if worker.run == name and worker.number == number]
                state = "staging" if mine else "waiting"
                if any(worker.stage is WorkerStage.READY for worker in mine):
                    state = "working"
                if found.intake_done and len(one.committed) == len(found.segments):
                    state = "done"
                passes.append((state, sum(len(worker.batches) for worker in mine)))
            self._control.tell(runner.progress(found.status.value, passes))

    def _watch_children(self) -> None:
        wanted = set[Any](self._context.hosts.local.pidfds() if self._context.hosts.local is not None else ())
        wanted.update(self._model_checks.pidfds())
        for runner in self._context.runs.values():
            if runner.link is not None:
                wanted.add(runner.link.socket)
                if runner.link.process.pidfd is not None:
                    wanted.add(runner.link.process.pidfd)
        for gone in self._watched - wanted:
            self._poller.unregister(gone)
        for new in wanted - self._watched:
            self._poller.register(new, zmq.POLLIN)
        self._watched = wanted

    def _stopped(self) -> bool:
        if not self.signals:
            return False
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
            for run in self._context.fleet.runs:
                self._context.emit(events.RunCancelled(run, "the coordinator was told to stop"))
        forced = len(self.signals) > 1 or now - self._stopping_since > self._grace
        return forced or not self._context.fleet.runs
