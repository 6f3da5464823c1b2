"""The hosts link and the local agent: reports on hosts and worker processes, turned into events."""

from __future__ import annotations

import time
from typing import Any

from ...protocol.wire.hosts import SpawnRefusedMessage, WorkerDiedMessage, WorkerGone, WorkerSpawned
from ..core import actions, events
from ..hosts.registry import HostEvent
from .context import Context

LAST_WORD_SECONDS = 0.5
"""How long to wait for a worker's last message, which has its peak memory, after its process ended."""


class HostLink:
    """The hosts link and the local agent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._leased: dict[str, tuple[str, int, str]] = {}
        """By worker: its run, pass index and device name, for its last report."""
        self._held: list[tuple[float, WorkerGone]] = []
        """Ends in good order whose worker's last message is still due, and until when they wait for it."""

    def gather(self, now: float) -> None:
        """Handle the waiting reports."""
        for event in self._context.hosts.receive(now):
            self._heard(event)
        if self._context.hosts.local is not None:
            for gone in self._context.hosts.local.reap():
                self._heard(gone)
        held, self._held = self._held, []
        for until, gone in held:
            if gone.worker in self._context.released or now >= until:
                self._gone(gone)
            else:
                self._held.append((until, gone))

    def spawn(self, action: actions.SpawnWorker) -> None:
        """Have the device's host start a worker."""
        worker = self._context.fleet.workers[action.worker]
        slot = self._context.fleet.devices[action.device]
        self._leased[action.worker] = (worker.run, worker.pass_index, slot.device.name)
        for event in self._context.hosts.spawn(action.worker, action.host, action.device, action.epoch):
            self._heard(event)

    def hand_over(self, action: actions.StageWorker) -> None:
        """Report the worker to the run that it is staged for from now on, if it stayed for that. One that has ended meanwhile
        has no lease any more: its end is on the way to the pool."""
        lease = self._leased.get(action.worker)
        if lease is not None and lease[:2] != (action.run, action.pass_index):
            self._leased[action.worker] = (action.run, action.pass_index, lease[2])
            self._lease("kept", action.worker, None)

    def _heard(self, event: HostEvent) -> None:
        match event:
            case WorkerSpawned():
                self._lease("before", event.worker, event.memory, pid=event.pid)
            case WorkerDiedMessage(worker, end):
                innocent = bool(end.starved or end.fault)
                self._context.emit(events.WorkerDied(worker, end.reason, innocent=innocent))
            case WorkerGone():
                if event.end.code == 0 and event.worker not in self._context.released:
                    self._held.append((time.monotonic() + LAST_WORD_SECONDS, event))
                else:
                    self._gone(event)
            case SpawnRefusedMessage():
                self._leased.pop(event.worker, None)
                self._context.emit(events.SpawnRefused(event.worker, event.reason))
            case _:
                self._context.emit(event)

    def _gone(self, event: WorkerGone) -> None:
        self._context.released.discard(event.worker)
        self._lease("after", event.worker, event.memory, released=event.released, code=event.end.code)
        self._leased.pop(event.worker, None)
        self._context.emit(
            events.WorkerExited(
                event.worker,
                event.end.reason,
                event.end.fault,
                innocent=bool(event.end.starved),
                unreleased=not event.released,
            )
        )

    def _lease(self, phase: str, worker: str, memory: Any, **more: Any) -> None:
        run, pass_index, device = self._leased.get(worker, ("", 0, ""))
        runner = self._context.runs.get(run)
        if runner is not None:
            runner.telemetry.lease(phase, worker, device, pass_index, memory, **more)
