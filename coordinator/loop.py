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
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import zmq

from ..protocol import channels
from ..protocol.channels import Address
from ..protocol.codec import check_version
from ..protocol.control_messages import (
    Accepted,
    Cancel,
    ClientHello,
    DeviceState,
    GetStatus,
    Refused,
    RunState,
    Status,
    Submit,
    ToCoordinator,
    Watch,
    Welcome,
)
from ..protocol.errors import EmbedfleetError, UsageError
from ..protocol.spec import RunSpec, check_spec
from ..protocol.version import PROTOCOL, __version__
from . import actions as act
from . import events as ev
from .batch_runner import BatchRunner
from .control_server import ControlServer
from .hosts import Hosts
from .planner import plan_passes
from .pool import Pool
from .reports import ExportReports, HostReports, WorkReports
from .state import WorkerStage

TICK_SECONDS = 0.1
PROGRESS_SECONDS = 0.5
DRAIN_SECONDS = 60.0
"""After SIGTERM: how long runs may take to finish what is in flight."""


class Coordinator:
    """One fleet. `signals` is a list that signal handlers append to; `wake` interrupts the poll from any thread."""

    def __init__(self, address: Address, hosts: Callable[[zmq.Context[Any]], Hosts], private_folder: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.signals: list[int] = []
        self.pool = Pool()
        self.runs: dict[str, BatchRunner] = {}
        self.hosts = hosts(self.context)
        self.control = ControlServer(self.context, address.control)
        self.work = channels.bind(self.context, zmq.ROUTER, address.work)
        self._folder = private_folder
        self._exporters = 0
        self._queue: deque[ev.Event] = deque()
        self._outs: dict[str, Path] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller = zmq.Poller()
        for source in (self.control.socket, self.hosts.socket, self.work, self._wake_read):
            self._poller.register(source, zmq.POLLIN)
        self._watched: set[Any] = set()
        self._work_reports = WorkReports(self)
        self._host_reports = HostReports(self)
        self._export_reports = ExportReports(self)
        self._stopping_since: float | None = None
        local = self.hosts.local
        if local is not None:
            self.emit(ev.HostJoined(local.host, local.devices))

    @property
    def wake_fd(self) -> int:
        """A byte written here ends the poll: for `signal.set_wakeup_fd` and other threads."""
        return self._wake_write

    def wake(self) -> None:
        """End the poll; from any thread."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wakes already
            os.write(self._wake_write, b".")

    def emit(self, event: ev.Event) -> None:
        """Queue an event for the pool."""
        self._queue.append(event)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT and the drain after it; a second signal ends the drain."""
        tick = told = 0.0
        while not self._stopped():
            self._gather()
            now = time.monotonic()
            if now - tick >= TICK_SECONDS:
                tick = now
                self._queue.extend(self.hosts.silent(now))
                self.emit(ev.Tick())
            self._decide()
            if now - told >= PROGRESS_SECONDS:
                told = now
                self._tell_progress()

    def close(self) -> None:
        """End every child and free every socket."""
        for runner in self.runs.values():
            runner.finish()
        self.hosts.close()
        self.control.close()
        self.work.close(linger=0)
        self.context.term()

    def status_of(self, run: str) -> str:
        """The run's status for people."""
        found = self.pool.fleet.runs.get(run)
        return found.status.value if found is not None else "ended"

    def _gather(self) -> None:
        self._watch_children()
        self._poller.poll(max(1, int(TICK_SECONDS * 1000)))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for client, request in self.control.receive():
            self._request(client, request)
        now = time.monotonic()
        self._host_reports.gather(now)
        self._work_reports.gather()
        self._export_reports.gather()
        for runner in list(self.runs.values()):
            while runner.intake_events:
                event = runner.intake_events.popleft()
                if isinstance(event, ev.SegmentSpooled):
                    runner.segment_spooled(event)
                self.emit(event)

    def _decide(self) -> None:
        while self._queue:
            event = self._queue.popleft()
            for action in self.pool.handle(event, time.monotonic()):
                self._perform(action)

    def _perform(self, action: act.Action) -> None:
        match action:
            case act.SendBatch():
                self._work_reports.sent(action)
                self.send(action.worker, self.runs[action.run].batch(action))
            case act.ForwardResult():
                self.runs[action.run].forward(action)
            case act.CutSegment():
                cuts = self.runs[action.run].cut(action.number, action.segment)
                self.emit(ev.SegmentCut(action.run, action.number, action.segment, cuts))
            case act.SpawnWorker():
                self._host_reports.spawn(action)
            case act.KillWorker():
                self.hosts.kill(action.worker, action.host)
            case act.StageWorker() | act.HydrateWorker() | act.ReleaseWorker():
                self._work_reports.command(action)
            case act.QuarantineRows():
                self.runs[action.run].quarantine(action)
            case act.OpenRun():
                self._exporters += 1
                self.runs[action.run].open(self.context, f"ipc://{self._folder}/export-{self._exporters}")
            case act.StartIntake():
                self.runs[action.run].start_intake([slot.device for slot in self.pool.fleet.devices.values()])
            case act.CloseRun():
                self.runs[action.run].close(action.status, action.error)
            case act.RunOver():
                self._over(action)
            case act.Note():
                current = self.pool.fleet.current
                if current is not None:
                    self.runs[current.name].telemetry.event(action.event, **action.fields)

    def send(self, worker: str, frames: list[Any]) -> None:
        """Send to a worker; one that is gone will be reported by its host."""
        with contextlib.suppress(zmq.ZMQError):
            self.work.send_multipart([worker.encode(), *frames], zmq.DONTWAIT, copy=False)

    def _over(self, action: act.RunOver) -> None:
        runner = self.runs.pop(action.run)
        runner.finish()
        progress = runner.progress(action.status, [(action.status, 0)] * len(runner.spec.passes))
        if progress.notices or action.status == "done":
            self.control.tell(progress)
        self.control.tell_end(runner.ended(action.status, action.kind, action.error))

    def _request(self, client: bytes, request: ToCoordinator | EmbedfleetError) -> None:
        try:
            if isinstance(request, EmbedfleetError):
                raise request
            self._serve(client, request)
        except EmbedfleetError as error:
            number = 0 if isinstance(request, EmbedfleetError) else request.request
            self.control.answer(client, Refused(number, type(error).__name__, str(error)))

    def _serve(self, client: bytes, request: ToCoordinator) -> None:
        match request:
            case ClientHello():
                check_version("this client", request.protocol, request.build, PROTOCOL, __version__)
                self.control.answer(client, Welcome(request.request, PROTOCOL, __version__))
            case Submit():
                self.control.answer(client, Accepted(request.request, self._submit(request)))
            case Watch():
                if request.run not in self.runs and request.run not in self.control.endings:
                    raise UsageError(f"run {request.run!r} is not known here; it may have ended long ago")
                self.control.answer(client, Accepted(request.request, request.run))
                self.control.watch(client, request.run)
            case Cancel():
                if request.run not in self.runs:
                    raise UsageError(f"run {request.run!r} is not running here")
                self.emit(ev.RunCancelled(request.run, "cancelled"))
                self.control.answer(client, Accepted(request.request, request.run))
            case GetStatus():
                self.control.answer(client, self._status(request.request))

    def _submit(self, request: Submit) -> str:
        if self._stopping_since is not None:
            raise UsageError("the coordinator is shutting down")
        check_spec(request.spec)
        _check_extras(request.spec)
        out = Path(request.out)
        if not out.is_absolute():
            raise UsageError(f"out {request.out!r}: give an absolute path; it is on the coordinator's host")
        busy = next((run for run, path in self._outs.items() if path == out and run in self.runs), None)
        if busy is not None:
            raise UsageError(f"--out {out}: run {busy} is writing there")
        run = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        self.runs[run] = BatchRunner(run, request.spec, out, restart=request.restart, wake=self.wake)
        self._outs[run] = out
        self.emit(ev.RunSubmitted(run, plan_passes(request.spec)))
        return run

    def _status(self, number: int) -> Status:
        fleet = self.pool.fleet
        runs = tuple(RunState(run=run, status=self.status_of(run), out=str(self._outs[run])) for run in self.runs)
        devices: list[DeviceState] = []
        for slot in fleet.devices.values():
            worker = fleet.workers.get(slot.active or "")
            vector = (
                fleet.runs[worker.run].passes[worker.number].plan.vector if worker and worker.run in fleet.runs else ""
            )
            devices.append(
                DeviceState(uuid=slot.device.uuid, name=slot.device.name, host=slot.host, working=vector, bad=slot.bad)
            )
        return Status(request=number, runs=runs, devices=tuple(devices))

    def _tell_progress(self) -> None:
        fleet = self.pool.fleet
        for name, runner in self.runs.items():
            found = fleet.runs.get(name)
            if found is None:
                continue
            passes: list[tuple[str, int]] = []
            for number, one in enumerate(found.passes):
                mine = [worker for worker in fleet.workers.values() if worker.run == name and worker.number == number]
                state = "staging" if mine else "waiting"
                if any(worker.stage is WorkerStage.READY for worker in mine):
                    state = "working"
                if found.intake_done and len(one.committed) == len(found.segments):
                    state = "done"
                passes.append((state, sum(len(worker.batches) for worker in mine)))
            self.control.tell(runner.progress(found.status.value, passes))

    def _watch_children(self) -> None:
        wanted = set[Any](self.hosts.local.pidfds() if self.hosts.local is not None else ())
        for runner in self.runs.values():
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
            for run in self.pool.fleet.runs:
                self.emit(ev.RunCancelled(run, "the coordinator was told to stop"))
        forced = len(self.signals) > 1 or now - self._stopping_since > DRAIN_SECONDS
        return forced or not self.pool.fleet.runs


def _check_extras(spec: RunSpec) -> None:
    """Refuse what this installation cannot do before anything is spooled or leased."""
    edge = spec.index == "edge" or any(one.kind == "bm25" for one in spec.passes)
    if edge and find_spec("qdrant_edge") is None:
        raise UsageError(
            "the searchable index and BM25 need qdrant-edge-py: pip install 'embedfleet[qdrant]', "
            "or give --index none and no --sparse bm25"
        )
    real = [one.model for one in spec.passes if one.kind == "dense" and not one.model.startswith("fake:")]
    if real and find_spec("sentence_transformers") is None:
        raise UsageError(f"model {real[0]} needs torch and sentence-transformers: pip install 'embedfleet[torch]'")
