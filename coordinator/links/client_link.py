"""The control link: requests of clients, and messages to the watchers of runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire.codec import check_version
from ...protocol.wire.control import (
    Accepted,
    Cancel,
    ClientHello,
    DeviceState,
    GetStatus,
    RunState,
    StageDone,
    Status,
    Submit,
    Watch,
    Welcome,
)
from ..core import actions, events
from ..core.state import DeviceSlot, RunStatus
from ..runs.batch_runner import BatchRunner
from ..telemetry.figures import PassState
from ..telemetry.observer import Observers
from .context import Context
from .control_server import ControlServer
from .pass_states import pass_state
from .submissions import Submissions, refusal


class ClientLink:
    """The clients of one coordinator."""

    def __init__(
        self, context: Context, server: ControlServer, submissions: Submissions, observers: Observers | None
    ) -> None:
        self._context, self._server, self._submissions, self._observers = context, server, submissions, observers
        self._handlers: dict[type[Any], Callable[[bytes, Any], None]] = {
            ClientHello: self._hello,
            Submit: self._submit,
            Watch: self._watch,
            Cancel: self._cancel,
            StageDone: self._stage_done,
            GetStatus: self._status,
        }

    def gather(self) -> None:
        """Handle the waiting requests."""
        for client, request in self._server.receive():
            try:
                if isinstance(request, EmbedfleetError):
                    raise request
                self._handlers[type(request)](client, request)
            except (EmbedfleetError, OSError, ValueError) as error:
                request_number = 0 if isinstance(request, EmbedfleetError) else request.request
                self._server.answer(client, refusal(request_number, error))

    def tell_progress(self) -> None:
        """Send each run's progress to its watchers."""
        fleet = self._context.fleet
        for name, runner in self._context.runs.items():
            run = fleet.runs.get(name)
            if run is None:
                continue
            if run is fleet.current:
                runner.telemetry.look_at_host()
            passes = [pass_state(fleet, run, pass_index) for pass_index in range(len(run.passes))]
            self._server.tell(runner.report.progress(fleet.shown_status(run).value, passes))

    def tell_end(self, runner: BatchRunner, action: actions.RunOver) -> None:
        """Send a run's end to its watchers."""
        status = action.status
        progress = runner.report.progress(status, [PassState(status)] * len(runner.spec.passes), end=True)
        if progress.notices or status == "done":
            self._server.tell(progress)
        self._server.tell_end(runner.report.ended(status, action.kind, action.error))

    def _hello(self, client: bytes, request: ClientHello) -> None:
        check_version("this client", request.protocol, request.build, PROTOCOL, __version__)
        self._server.answer(client, Welcome(request.request, PROTOCOL, __version__))

    def _submit(self, client: bytes, request: Submit) -> None:
        self._submissions.take(request, partial(self._server.answer, client))

    def _watch(self, client: bytes, request: Watch) -> None:
        known = (self._context.runs, self._context.ending, self._server.endings)
        if not any(request.run in runs for runs in known):
            raise UsageError(f"run {request.run!r} is not known here; it may have ended long ago")
        self._server.answer(client, Accepted(request.request, request.run))
        self._server.watch(client, request.run)

    def _cancel(self, client: bytes, request: Cancel) -> None:
        if request.run not in self._context.runs:
            raise UsageError(f"run {request.run!r} is not running here")
        self._context.emit(events.RunCancelled(request.run, "cancelled"))
        self._server.answer(client, Accepted(request.request, request.run))

    def _stage_done(self, client: bytes, request: StageDone) -> None:
        if self._observers is not None:
            self._observers.stage(request)
        self._server.answer(client, Accepted(request.request, ""))

    def _status(self, client: bytes, request: GetStatus) -> None:
        runs = [self._run_state(runner, RunStatus.CLOSING) for runner in self._context.ending.values()]
        runs += [self._run_state(runner, RunStatus.QUEUED) for runner in self._context.runs.values()]
        slots = self._context.fleet.devices.values()
        devices = [self._device_state(slot) for slot in slots if slot.active is not None or not slot.device.helper]
        self._server.answer(client, Status(request=request.request, runs=tuple(runs), devices=tuple(devices)))

    def _run_state(self, runner: BatchRunner, otherwise: RunStatus) -> RunState:
        """`otherwise` is the status if the pool does not have the run yet, or no longer."""
        run = self._context.fleet.runs.get(runner.run)
        status = self._context.fleet.shown_status(run) if run is not None else otherwise
        return RunState(run=runner.run, status=status.value, out=str(runner.layout.root))

    def _device_state(self, slot: DeviceSlot) -> DeviceState:
        fleet = self._context.fleet
        worker = fleet.workers.get(slot.active or "")
        vector = (
            fleet.runs[worker.run].passes[worker.pass_index].plan.vector if worker and worker.run in fleet.runs else ""
        )
        bad = slot.health.bad or "; ".join(slot.health.refused.values())
        return DeviceState(uuid=slot.device.uuid, name=slot.device.name, host=slot.host, working=vector, bad=bad)
