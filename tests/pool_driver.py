"""A pool with its clock in hand, for tests that say what happens event by event."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from embedfleet.coordinator.core.actions import Action, Note, SendBatch
from embedfleet.coordinator.core.events import (
    BatchDone,
    BatchFailed,
    Cut,
    Event,
    HostJoined,
    IntakeDone,
    PassPlan,
    RunOpened,
    RunSubmitted,
    Scrubbed,
    SegmentCut,
    SegmentSpooled,
    Tick,
    WorkerExited,
    WorkerHello,
    WorkerReady,
    WorkerStaged,
)
from embedfleet.coordinator.core.pool import Pool
from embedfleet.coordinator.core.state import Pass, PoolConfig
from embedfleet.protocol.wire.devices import Device
from embedfleet.protocol.wire.run_options import DEFAULTS, RunOptions


def gpu(uuid: str) -> Device:
    return Device(uuid=uuid, kind="cuda", name=uuid, memory=1 << 34, threads=1)


def cpu(uuid: str, *, auxiliary: bool = False) -> Device:
    return Device(uuid=uuid, kind="cpu", name=uuid, memory=1 << 34, threads=1, auxiliary=auxiliary)


def helper(uuid: str) -> Device:
    return Device(uuid=uuid, kind="cpu", name=uuid, memory=1 << 34, threads=1, auxiliary=True, helper=True)


class Driver:
    """Hands events to a pool; `now` moves only when told to."""

    def __init__(self, *devices: Device, config: PoolConfig | None = None) -> None:
        self.pool = Pool(config)
        self.now = 100.0
        self.notes: list[Note] = []
        """Of all events."""
        if devices:
            self.tell(HostJoined("h", devices))

    def tell(self, event: Event, after: float = 0.0) -> list[Action]:
        """The actions but for the notes."""
        self.now += after
        out = self.pool.handle(event, self.now)
        self.notes += [action for action in out if isinstance(action, Note)]
        return [action for action in out if not isinstance(action, Note)]

    def tick(self, after: float) -> list[Action]:
        return self.tell(Tick(), after)

    def noted(self, event: str) -> list[dict[str, Any]]:
        return [dict(note.fields) for note in self.notes if note.event == event]

    def run(
        self,
        *passes: PassPlan,
        segments: Sequence[int] = (8,),
        committed: Sequence[frozenset[int]] = (),
        name: str = "r",
        options: RunOptions = DEFAULTS,
    ) -> list[Action]:
        """Submit a run, open it and spool its segments of so many rows; return all actions."""
        out = self.tell(RunSubmitted(name, passes, options))
        out += self.tell(RunOpened(name, tuple(committed) or (frozenset(),) * len(passes)))
        if any(committed):
            out += self.tell(Scrubbed(name))
        for segment, rows in enumerate(segments):
            out += self.tell(SegmentSpooled(name, segment, rows))
        return out + self.tell(IntakeDone(name))

    def stage(self, worker: str, row_bytes: int = 1) -> list[Action]:
        self.tell(WorkerHello(worker, self.pool.fleet.workers[worker].epoch))
        return self.tell(WorkerStaged(worker, row_bytes))

    def ready(self, worker: str, row_bytes: int = 1, bounds: tuple[int, int] = (0, 0)) -> list[Action]:
        """Through hello, staged and ready; the actions of the last. `bounds`: the most tokens and rows of a batch."""
        self.stage(worker, row_bytes)
        return self.tell(WorkerReady(worker, *bounds))

    def cut(self, *edges: int, segment: int = 0, pass_index: int = 0, name: str = "r") -> list[Action]:
        """The segment's batches, by their edges; ten tokens a row."""
        cuts = tuple(Cut(a, b, 10 * (b - a)) for a, b in itertools.pairwise(edges))
        return self.tell(SegmentCut(name, pass_index, segment, cuts))

    def done(self, worker: str, batch: int | None = None, after: float = 0.0) -> list[Action]:
        """The worker's batch, its oldest by default, is computed; its number is the payload."""
        slot = self.pool.fleet.workers[worker]
        batch = slot.batches[0] if batch is None else batch
        return self.tell(BatchDone(worker, slot.epoch, batch, payload=batch), after)

    def failed(self, worker: str, reason: str = "out of memory") -> list[Action]:
        slot = self.pool.fleet.workers[worker]
        return self.tell(BatchFailed(worker, slot.epoch, slot.batches[0], reason))

    def exit(self, worker: str, reason: str = "signal 11", after: float = 0.0) -> list[Action]:
        return self.tell(WorkerExited(worker, reason), after)

    def passes(self, name: str = "r") -> list[Pass]:
        return self.pool.fleet.runs[name].passes

    def held(self, worker: str) -> list[int]:
        return self.pool.fleet.workers[worker].batches


def rows_sent(actions: Sequence[Action]) -> list[tuple[str, int, int]]:
    """Worker, start and stop of each batch sent."""
    return [(one.worker, one.start, one.stop) for one in actions if isinstance(one, SendBatch)]
