"""The coordinator's loop: gather events, let the pool decide, perform its actions. One thread.

gather    control, hosts, work and export links · workers' and exporter's ends · model checks · notes · signals · the clock
decide    Pool.handle(event, now) → actions
perform   each action, by the part in charge of it

Only the poll may block: this thread receives and sends the heartbeats, and peers without heartbeats are taken for lost. Calls
that wait for a disk, a process or a thread run on a thread of `background.py` and come back as notes. Two kinds of calls are
left: the start of a child, whose death signal follows this thread, and one query of a GPU's driver before a lease and at a
worker's end, for a second at most for each GPU.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from ..protocol.errors import EmbedfleetError
from ..protocol.wire import channels
from ..protocol.wire.channels import Address
from .background import Background
from .core import actions, events
from .core.config import PoolConfig
from .core.pool import Pool
from .hosts.registry import Hosts
from .links.client_link import ClientLink
from .links.context import Context
from .links.control_server import ControlServer
from .links.endings import Endings
from .links.exporter_link import ExporterLinks
from .links.host_link import HostLink
from .links.submissions import Submissions
from .links.worker_link import WorkerLink
from .poll import Poll
from .runs.exporter_process import ExporterProcess
from .runs.model_checks import ModelChecks
from .telemetry.observer import Observers

TICK_SECONDS = 0.1
PROGRESS_SECONDS = 0.5
DRAIN_SECONDS = 60.0
"""Default drain time after a signal."""
EXPORT_LINKS = 1_000
"""Names of export links; after the last one the first is used again."""


class Coordinator:
    """One fleet. Signal handlers append to `signals`; `say` shows a line to people. `shared` as for `Submissions`."""

    def __init__(
        self,
        address: Address,
        hosts: Callable[[zmq.Context[Any]], Hosts],
        private_folder: Path,
        say: Callable[[str], None],
        observers: Observers | None = None,
        grace: float = DRAIN_SECONDS,
        *,
        shared: bool = False,
    ) -> None:
        self._grace = grace
        self.signals: list[int] = []
        self._stopping_since: float | None = None
        self._zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        work = channels.bind(self._zmq, zmq.ROUTER, address.work)
        registry = hosts(self._zmq)
        self._control = ControlServer(self._zmq, address.control)
        self._endpoints = (address.control, address.hosts, address.work)
        self._poll = Poll((self._control.socket, registry.socket, work))
        self._background = Background(self._poll.wake)
        pool = Pool(PoolConfig(first_epoch=time.time_ns() // 1_000_000))
        self._context = context = Context(pool, registry, work, self._background, say)
        self._folder = private_folder
        self._export_links = itertools.cycle(range(EXPORT_LINKS))
        self._checks = ModelChecks(leave=self._background.leave)
        submissions = Submissions(context, self._checks, self._start_exporter, observers, shared=shared)
        self._submissions = submissions
        self._clients = ClientLink(context, self._control, submissions, observers)
        self._workers, self._hosts, self._exporters = WorkerLink(context), HostLink(context), ExporterLinks(context)
        self._endings = Endings(context, self._clients, self._checks)
        self._performers = self._table()
        if registry.local is not None:
            context.emit(events.HostJoined(registry.local.host, registry.local.devices))

    @property
    def wake_fd(self) -> int:
        """A byte written here ends the poll: for `signal.set_wakeup_fd`."""
        return self._poll.wake_fd

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT and the drain after it; a second signal ends the drain."""
        tick = reported = 0.0
        while not self._stopped():
            self._gather()
            now = time.monotonic()
            if now - tick >= TICK_SECONDS:
                tick = now
                self._context.queue.extend(self._context.hosts.silent(now))
                self._context.emit(events.Tick())
            self._decide()
            if now - reported >= PROGRESS_SECONDS:
                reported = now
                for text in self._context.notices.due(now):
                    self._context.say(text)
                self._clients.tell_progress()

    def close(self) -> None:
        """End every child and free every socket."""
        self._checks.close()
        for runner in self._context.runs.values():
            runner.finish()()
            runner.telemetry.over("interrupted", "the coordinator ended")
        self._endings.close()
        self._poll.close()
        self._context.hosts.close()
        self._control.close()
        self._context.work.close(linger=0)
        self._background.close()
        self._zmq.term()
        for endpoint in self._endpoints:
            channels.unlink_socket(endpoint)

    def _gather(self) -> None:
        self._poll.wait(TICK_SECONDS, self._children())
        self._clients.gather()
        self._workers.gather()  # before the hosts: a worker's messages count before its end
        self._hosts.gather(time.monotonic())
        self._exporters.gather()
        for checked in self._checks.take(time.monotonic()):
            if checked.trouble:
                self._context.note(checked.event.run, "models_unchecked", {"reason": checked.trouble})
            self._context.emit(checked.event)
        for note in self._background.notes():
            try:
                note.act()
            except (EmbedfleetError, OSError, ValueError) as error:  # of the run's files; pyarrow's are ValueErrors
                self._give_up(note.run, error)

    def _children(self) -> Iterator[Any]:
        """Sockets of exporters, and descriptors that become readable when a child ends."""
        local = self._context.hosts.local
        if local is not None:
            yield from local.pidfds()
        yield from self._checks.pidfds()
        for runner in self._context.runs.values():
            exporter = runner.export.process
            if exporter is not None:
                yield exporter.socket
                if exporter.process.pidfd is not None:
                    yield exporter.process.pidfd

    def _decide(self) -> None:
        queue = self._context.queue
        while queue:
            for action in self._context.pool.handle(queue.popleft(), time.monotonic()):
                self._perform(action)

    def _perform(self, action: actions.Action) -> None:
        try:
            self._performers[type(action)](action)
        except (EmbedfleetError, OSError, ValueError) as error:
            if isinstance(action, actions.RunOver):
                raise
            self._give_up(getattr(action, "run", ""), error)
            if isinstance(action, actions.OpenRun | actions.CloseRun):
                self._context.emit(events.RunClosed(action.run))

    def _give_up(self, run: str, error: Exception) -> None:
        """Fail the run that the error belongs to, so that the others go on; raise an error of no run."""
        if run not in self._context.runs:
            raise error
        self._context.runs[run].fail(error)

    def _table(self) -> dict[type[Any], Callable[[Any], None]]:
        """Map each kind of action to the call that performs it."""
        context, runs = self._context, self._context.runs
        return {
            actions.StartExporter: lambda action: runs[action.run].export.prepare(),
            actions.OpenRun: lambda action: runs[action.run].open(),
            actions.StartIntake: lambda action: runs[action.run].start_intake(context.devices()),
            actions.CutSegment: lambda action: runs[action.run].cut(action),
            actions.ForwardResult: lambda action: runs[action.run].forward(action),
            actions.QuarantineRows: lambda action: runs[action.run].quarantine(action),
            actions.FillSegment: lambda action: runs[action.run].fill(action),
            actions.CloseRun: lambda action: runs[action.run].close(action.status, action.error),
            actions.RunOver: self._endings.begin,
            actions.SpawnWorker: self._hosts.spawn,
            actions.KillWorker: lambda action: context.hosts.kill(action.worker, action.host),
            actions.StageWorker: self._stage,
            actions.HydrateWorker: self._workers.hydrate,
            actions.ReleaseWorker: self._workers.release,
            actions.SendBatch: self._workers.send_batch,
            actions.Note: lambda action: context.note(action.run, action.event, action.fields),
        }

    def _stage(self, action: actions.StageWorker) -> None:
        self._hosts.hand_over(action)
        self._workers.stage(action)

    def _start_exporter(self) -> ExporterProcess:
        return ExporterProcess(self._zmq, f"ipc://{self._folder}/export-{next(self._export_links)}")

    def _stopped(self) -> bool:
        if not self.signals:
            return False
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
            self._submissions.stop()
            for run in self._context.fleet.runs:
                self._context.emit(events.RunCancelled(run, "the coordinator was told to stop"))
        forced = len(self.signals) > 1 or now - self._stopping_since > self._grace
        return forced or not (self._context.fleet.runs or self._context.ending)
