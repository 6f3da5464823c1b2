"""A seeded world around the pool: hosts, workers, exporters, poison rows, and the ways in which they fail.

A world is a queue of happenings ordered by simulated time. Each event that the pool handles is a step, and after each one the
invariants of `simulation_watch.py` are checked. Everything is drawn from `random.Random(seed)`: a seed that fails can be
replayed.

    python tests/simulation.py --seeds 0:1000

One rule keeps the world fair. The pool cannot tell an accident from a poison row, so no innocent row is ever blamed twice:
a worker that would die on one for the second time hands its result in first.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import sys
import time
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from embedfleet.coordinator.core import actions, events
from embedfleet.coordinator.core.pool import Pool
from embedfleet.coordinator.core.state import PoolConfig, WorkerStage
from embedfleet.protocol.wire.devices import Device
from embedfleet.protocol.wire.run_options import RunOptions
from embedfleet.tests.simulation_watch import MANY, ROW_BYTES, Watch, require

MAX_STEPS = 50_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """What may go wrong, as chances per opportunity; nothing but poison does after `quiet` simulated seconds."""

    name: str
    accident: float = 0.0
    """A worker dies, hangs or breaks in a stage or a batch."""
    refuse: float = 0.0
    leave: float = 0.0
    exporter: float = 0.0
    poison: float = 0.0
    cancel: float = 0.0
    fatal: float = 0.0
    damage: float = 0.0
    """A segment of an earlier session is not as it was written."""
    broken: float = 0.0
    """A device ends every worker that is given a batch."""
    fault: float = 0.0
    """A device breaks, and its driver says so."""
    fallback: float = 0.0
    """A pass goes on without a model: from the start, or when its model does not load."""
    device_failures: int = MANY
    exporter_failures: int = MANY
    quiet: float = 150.0


SCENARIOS = (
    Scenario("calm"),
    Scenario("accidents", accident=0.08, refuse=0.1),
    Scenario("poison", poison=0.03, accident=0.02),
    Scenario("broken devices", poison=0.02, exporter=0.1, broken=0.4, device_failures=3),
    Scenario("exporters", exporter=0.8, accident=0.02, cancel=0.3, damage=0.2),
    Scenario("hosts", leave=0.8, accident=0.03, refuse=0.2),
    Scenario("fallbacks", accident=0.03, exporter=0.4, poison=0.01, cancel=0.2, fatal=0.3, fallback=0.8),
    Scenario("chaos", 0.05, 0.1, 0.6, 0.5, 0.02, 0.5, 0.02, damage=0.1),
    Scenario(
        "fragile",
        0.2,
        0.1,
        0.3,
        0.3,
        0.01,
        0.2,
        0.02,
        damage=0.1,
        fault=0.05,
        fallback=0.4,
        device_failures=2,
        exporter_failures=3,
    ),
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a run has to embed. `poison` maps (pass, segment, sorted row) to what it does to a worker."""

    run: str
    passes: tuple[events.PassPlan, ...]
    rows: tuple[int, ...]
    poison: dict[tuple[int, int, int], str]
    cuts: dict[tuple[int, int], tuple[events.Cut, ...]]
    weighted: int
    """The first segment with a chunk that has weights of its own; beyond the last: none has."""
    options: RunOptions

    def keys(self) -> set[tuple[int, int]]:
        return set(self.cuts)

    def poison_in(self, batch: Any) -> str:
        rows = ((batch.pass_index, batch.segment, row) for row in range(batch.start, batch.stop))
        return next((self.poison[row] for row in rows if row in self.poison), "")


@dataclass(slots=True)
class Process:
    """A worker's process, as its host sees it."""

    name: str
    epoch: int
    host: str
    device: str
    speed: float
    bounds: tuple[int, int] = (0, 0)
    """The most tokens and rows of a batch of several cuts."""
    alive: bool = True
    hung: bool = False
    mute: bool = False
    busy: bool = False
    gone: bool = False
    """Its host left."""
    releasing: bool = False
    serves: tuple[str, int, int] | None = None
    """Run, its submission, and the pass."""
    loaded: str | None = None
    """What it has loaded, once it is ready."""
    progress: int = 0
    inbox: deque[actions.SendBatch] = field(default_factory=deque)
    sent_until: float = 0.0


@dataclass(slots=True)
class Exporter:
    """One lifetime of a run's exporter: the rows it was given, by (pass, segment)."""

    run: str
    alive: bool = True
    damaged: set[tuple[int, int]] = field(default_factory=set)
    """Of those that stood when it began; nobody knows of them yet."""
    cut: set[tuple[int, int]] = field(default_factory=set)
    filled: set[tuple[int, int]] = field(default_factory=set)
    given: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    quarantined: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))


class World:
    """Drives one pool until every run is over and every worker has gone."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.scenario = SCENARIOS[seed % len(SCENARIOS)]
        self.config = PoolConfig(
            credit=self.rng.randint(1, 3),
            batch_seconds=self.rng.choice((0.25, 2.0, 10.0)),
            hello_timeout=8,
            stage_timeout=20,
            hydrate_timeout=10,
            release_timeout=5,
            silence_timeout=6,
            first_batch_timeout=30,
            batch_timeout=10,
            device_failures=self.scenario.device_failures,
            exporter_failures=self.scenario.exporter_failures,
            uncommitted_bytes=self.rng.choice((1, 100, MANY)) * ROW_BYTES,
        )
        self.pool = Pool(self.config)
        self.watch = Watch(self)
        self.now = 0.0
        self.steps = 0
        self.queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.serial = itertools.count()
        self.hosts = {f"h{n}": self._devices(n) for n in range(self.rng.randint(1, 3))}
        devices = (one.uuid for name, host in self.hosts.items() if name != "h0" for one in host)
        self.broken = {uuid for uuid in devices if self.rng.random() < self.scenario.broken}
        self.processes: dict[str, Process] = {}
        self.corpora = {f"r{n}": self._corpus(f"r{n}") for n in range(self.rng.randint(1, 3))}
        self.exporters: dict[str, Exporter] = {}
        self.durable: dict[str, dict[tuple[int, int], set[int]]] = {run: {} for run in self.corpora}
        self.submissions: Counter[str] = Counter()
        self.hurt: set[tuple[str, int, int, int]] = set()
        self.over: dict[str, actions.RunOver] = {}

    def run(self) -> None:
        for host in self.hosts:
            self.later(self.rng.random() * 10 * (host != "h0"), self.join, host)
        for run in self.corpora:
            self.later(self.rng.random() * 20, self.submit, run)
        self.later(0.5, self.tick)
        while len(self.over) < len(self.corpora) or self.pool.fleet.workers:
            require(self.steps < MAX_STEPS, "everything ends", self.over, self.pool.fleet.workers)
            self.now, _, happen, args = heapq.heappop(self.queue)
            happen(*args)
        self.watch.at_end()

    def later(self, delay: float, happen: Callable[..., None], *args: Any) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.serial), happen, args))

    def tell(self, event: events.Event) -> None:
        """One step: the pool handles the event, the world performs what it asks for."""
        self.watch.before(event)
        asked = self.pool.handle(event, self.now)
        self.steps += 1
        for action in asked:
            self.watch.asked(action)
            perform = getattr(self, f"do_{type(action).__name__}", None)
            if perform is not None:
                perform(action)
        self.watch.after()

    def tick(self) -> None:
        self.tell(events.Tick())
        self.later(0.5, self.tick)

    def chance(self, of: float) -> bool:
        return self.now < self.scenario.quiet and self.rng.random() < of

    def soon(self, most: float = 0.2) -> float:
        return self.rng.random() * most

    # Hosts.

    def _devices(self, host: int) -> tuple[Device, ...]:
        kind = self.rng.choice(("cuda", "cpu"))
        count = self.rng.randint(1, 3)
        devices = [_device(f"{kind}-h{host}-{n}", kind) for n in range(count)]
        if kind == "cuda":
            devices.append(_device(f"aux-h{host}", "cpu", auxiliary=True))
        if sum(one.kind == "cpu" for one in devices) == 1:
            devices += [_device(f"helper-h{host}-{n}", "cpu", helper=True) for n in range(self.rng.choice((0, 1, 3)))]
        return tuple(devices)

    def join(self, host: str) -> None:
        self.tell(events.HostJoined(host, self.hosts[host]))
        if self.chance(0.1):
            self.tell(events.HostJoined(host, self.hosts[host]))
        if self.chance(self.scenario.leave):
            self.later(5 + self.soon(60), self.leave, host)

    def leave(self, host: str) -> None:
        for process in self.processes.values():
            if process.host == host:
                process.alive, process.gone = False, True
        self.tell(events.HostLeft(host, "the link closed"))
        self.later(1 + self.soon(20), self.join, host)

    # Workers.

    def send(self, process: Process, event: events.Event) -> None:
        """A worker's messages arrive in order, even those under way when it dies."""
        process.sent_until = max(process.sent_until, self.now + self.soon())
        self.later(process.sent_until - self.now, self.tell, event)

    def within(self, process: Process, delay: float, happen: Callable[[Process], None]) -> None:
        def if_alive() -> None:
            if process.alive and not process.hung:
                happen(process)

        self.later(delay, if_alive)

    def do_SpawnWorker(self, action: actions.SpawnWorker) -> None:
        if self.chance(self.scenario.refuse):
            self.later(self.soon(), self.tell, events.SpawnRefused(action.worker, "memory is taken"))
            return
        speed = self.rng.choice((0.5, 1, 1, 1, 5))
        bounds = self.rng.choice(((0, 0), (300, 4), (5_000, MANY), (MANY, MANY)))
        process = Process(action.worker, action.epoch, action.host, action.device, speed, bounds)
        self.processes[action.worker] = process
        self.within(process, 0.2 + self.soon(2), self.hello)

    def hello(self, process: Process) -> None:
        if self.mishap(process):
            return
        self.send(process, events.WorkerHello(process.name, process.epoch))
        self.beat(process)

    def beat(self, process: Process) -> None:
        if process.alive and not process.mute:
            process.progress += process.busy and not process.hung
            self.send(process, events.WorkerAlive(process.name, process.progress))
            if self.chance(self.scenario.accident):  # one of an ended lease comes back with a result
                batch_id = self.rng.randrange(self.pool.fleet.next_batch + 1)
                self.send(process, events.BatchDone(process.name, process.epoch - 1, batch_id, "of an ended lease"))
            self.later(1.5, self.beat, process)

    def do_StageWorker(self, action: actions.StageWorker) -> None:
        process = self.processes[action.worker]
        process.serves = (action.run, self.submissions[action.run], action.pass_index)
        self.within(process, 0.5 + self.soon(3), self.staged if process.loaded is None else self.staged_again)

    def staged(self, process: Process) -> None:
        if not self.mishap(process) and not self.breaks(process):
            self.send(process, events.WorkerStaged(process.name, ROW_BYTES))

    def staged_again(self, process: Process) -> None:
        """The process stayed for this run. It may have another dtype than the run needs."""
        if not self.mishap(process):
            unfit = self.chance(self.scenario.accident)
            again = events.WorkerUnfit(process.name) if unfit else events.WorkerStaged(process.name, ROW_BYTES)
            self.send(process, again)

    def do_HydrateWorker(self, action: actions.HydrateWorker) -> None:
        self.within(self.processes[action.worker], 0.2 + self.soon(2), self.hydrated)

    def hydrated(self, process: Process) -> None:
        if not self.mishap(process) and not self.breaks(process):
            assert process.serves is not None, "it was staged"
            process.loaded = self.corpora[process.serves[0]].passes[process.serves[2]].loads
            self.send(process, events.WorkerReady(process.name, *process.bounds))

    def breaks(self, process: Process) -> bool:
        """The model does not load; the process says so and ends, or hangs in its own end."""
        fatal = self.chance(self.scenario.fatal)
        if not fatal and not self.chance(self.scenario.accident):
            return False
        if fatal and process.serves is not None:
            self.watch.broken.add(process.serves[:2])
        self.send(process, events.WorkerBroken(process.name, "ModelBroken", "no such weights", fatal))
        process.hung = self.rng.random() < 0.3
        if not process.hung:
            self.die(process, "broken")
        return True

    def mishap(self, process: Process) -> bool:
        """Dies, or hangs: silent, or alive without progress."""
        if not self.chance(self.scenario.accident):
            return False
        if self.rng.random() < 0.6:
            self.die(process, "segmentation fault")
        else:
            process.hung = True
            process.mute = self.rng.random() < 0.5
        return True

    def do_SendBatch(self, action: actions.SendBatch) -> None:
        self.later(self.soon(), self.take, self.processes[action.worker], action)

    def take(self, process: Process, batch: actions.SendBatch) -> None:
        process.inbox.append(batch)
        if self.corpora[batch.run].poison_in(batch) == "early":  # it is tokenized while the one before it is computed
            self.within(process, self.soon(), lambda one: self.die(one, "poison"))
        self.compute(process)

    def compute(self, process: Process) -> None:
        if process.busy or process.hung or not process.alive:
            return
        if process.inbox:
            process.busy = True
            rows = process.inbox[0].stop - process.inbox[0].start
            self.within(process, process.speed * rows * (0.05 + self.soon(0.1)), self.computed)
        elif process.releasing and not self.mishap(process):
            self.die(process, "released")

    def computed(self, process: Process) -> None:
        batch = process.inbox[0]
        poison = self.corpora[batch.run].poison_in(batch)
        if process.device in self.broken:
            self.die(process, "the device is broken")
        elif poison in ("kill", "early"):
            self.die(process, "poison")
        elif poison == "hang":
            process.hung = True
        elif poison != "" or (self.chance(self.scenario.accident) and self.may_blame(batch)):
            self.finish(
                process, events.BatchFailed(process.name, process.epoch, batch.batch, poison or "out of memory")
            )
        elif not self.mishap(process):
            self.finish(process, _done(batch))

    def finish(self, process: Process, event: events.Event) -> None:
        process.inbox.popleft()
        process.busy = False
        self.send(process, event)
        self.compute(process)

    def do_ReleaseWorker(self, action: actions.ReleaseWorker) -> None:
        process = self.processes[action.worker]
        process.releasing = True
        self.later(self.soon(), self.compute, process)

    def do_KillWorker(self, action: actions.KillWorker) -> None:
        if action.worker in self.processes:
            self.later(self.soon(1), self.die, self.processes[action.worker], "killed")

    def die(self, process: Process, reason: str) -> None:
        """What it has sent is still under way, and may arrive after the news of its end."""
        if process.alive:
            process.alive = False
            self.later(self.soon(0.5), self.exited, process, reason)

    def exited(self, process: Process, reason: str) -> None:
        """The news of it may come twice: at once, and when the device is free. The host's own memory may be the cause."""
        innocent = self.chance(self.scenario.accident)
        if not innocent and process.device not in self.broken:
            self._hand_in_what_may_not_be_blamed(process)
        gone = events.WorkerExited(process.name, reason, self._fault(), innocent)
        if self.rng.random() < 0.5:
            self.tell(events.WorkerDied(process.name, reason, innocent or bool(gone.fault)))
            self.later(self.soon(2), self.gone, gone)
        else:
            self.gone(gone)

    def gone(self, event: events.WorkerExited) -> None:
        self.tell(event)
        if self.chance(0.1):
            self.tell(event)

    def _fault(self) -> str:
        return "XID 79" if self.chance(self.scenario.fault) else ""

    def _hand_in_what_may_not_be_blamed(self, process: Process) -> None:
        worker = self.pool.fleet.workers.get(process.name)
        while worker is not None and worker.batches and worker.stage is WorkerStage.READY:
            batch = self.watch.sent[worker.batches[0]]
            if self.corpora[batch.run].poison_in(batch) or self.may_blame(batch):
                break
            self.tell(_done(batch))

    def may_blame(self, batch: actions.SendBatch) -> bool:
        rows = {(batch.run, batch.pass_index, batch.segment, row) for row in range(batch.start, batch.stop)}
        if rows & self.hurt:
            return False
        self.hurt |= rows
        return True

    # Runs: the client, the intake, the exporter.

    def _corpus(self, run: str) -> Corpus:
        passes = tuple(self._plan(n) for n in range(self.rng.randint(1, 3)))
        rows = tuple(self.rng.randint(1, 48) for _ in range(self.rng.choice((0, 1, 3, 6, 10))))
        every = (
            (n, segment, row) for n in range(len(passes)) for segment, most in enumerate(rows) for row in range(most)
        )
        bad = [row for row in every if self.rng.random() < self.scenario.poison]
        poison = {row: self.rng.choice(("kill", "fail", "hang", "early")) for row in bad}
        cuts = {(n, s): self._cuts(most) for n in range(len(passes)) for s, most in enumerate(rows)}
        weighted = self.rng.randint(0, len(rows)) if self.scenario.fallback else 0
        options = RunOptions(
            batch_timeout=self.rng.choice((None, None, 12.0)),
            load_timeout=self.rng.choice((None, None, 15.0)),
            cpu_fallback=self.rng.random() < 0.5,
        )
        return Corpus(run, passes, rows, poison, cuts, weighted, options)

    def _plan(self, pass_index: int) -> events.PassPlan:
        cpu_only = self._cpu_only()
        light = cpu_only and self.rng.random() < 0.7
        plan = events.PassPlan(
            f"v{pass_index}",
            cpu_only,
            after_intake=self.rng.random() < 0.2,
            light=light,
            loads=self.rng.choice(("", "model", "another model")),
        )
        if self.rng.random() >= self.scenario.fallback:
            return plan
        return msgspec.structs.replace(
            plan, fallback=True, given_up="no model is asked for" if self.rng.random() < 0.2 else ""
        )

    def _cpu_only(self) -> bool:
        return any(device.kind == "cpu" for device in self.hosts["h0"]) and self.rng.random() < 0.3

    def _cuts(self, rows: int) -> tuple[events.Cut, ...]:
        edges = sorted({0, rows, *(self.rng.randrange(rows) for _ in range(rows // self.rng.choice((2, 5))))})
        return tuple(events.Cut(a, b, (b - a) * self.rng.randint(5, 200)) for a, b in itertools.pairwise(edges))

    def submit(self, run: str) -> None:
        self.submissions[run] += 1
        unchecked = self.rng.random() < 0.3
        self.tell(events.RunSubmitted(run, self.corpora[run].passes, self.corpora[run].options, unchecked))
        if unchecked:
            self.later(self.soon(3), self.models_checked, run, self.submissions[run])
        if self.chance(self.scenario.cancel):
            self.later(self.soon(60), self.tell, events.RunCancelled(run, "interrupted"))

    def models_checked(self, run: str, submission: int) -> None:
        if self.submissions[run] == submission:
            self.tell(events.ModelsChecked(run))

    def do_RunOver(self, action: actions.RunOver) -> None:
        self.exporters.pop(action.run, None)
        if action.status == "interrupted" or (action.status == "failed" and "given up" not in action.error):
            self.later(self.soon(5), self.submit, action.run)
        else:
            self.over[action.run] = action

    def do_StartIntake(self, action: actions.StartIntake) -> None:
        at = 0.0
        for segment, rows in enumerate(self.corpora[action.run].rows):
            at += self.soon(2)
            weighted = segment >= self.corpora[action.run].weighted
            spooled = events.SegmentSpooled(action.run, segment, rows, has_weights=weighted)
            self.later(at, self.intake, self.submissions[action.run], spooled)
        at += self.soon(2)
        self.later(at, self.intake, self.submissions[action.run], events.IntakeDone(action.run))
        self.later(at + self.soon(2), self.intake, self.submissions[action.run], events.CorpusMeasured(action.run))

    def intake(self, submission: int, event: events.SegmentSpooled | events.IntakeDone | events.CorpusMeasured) -> None:
        if self.submissions[event.run] == submission:
            self.tell(event)

    def do_CutSegment(self, action: actions.CutSegment) -> None:
        cuts = self.corpora[action.run].cuts[action.pass_index, action.segment]
        self.later(self.soon(), self.tell, events.SegmentCut(action.run, action.pass_index, action.segment, cuts))

    def do_OpenRun(self, action: actions.OpenRun) -> None:
        exporter = self.exporters[action.run] = Exporter(action.run)
        self.later(0.5 + self.soon(), self.opened, exporter)
        if self.chance(self.scenario.exporter):
            self.later(self.soon(30), self.exporter_dies, exporter)

    def current(self, exporter: Exporter) -> bool:
        return self.exporters.get(exporter.run) is exporter

    def opened(self, exporter: Exporter) -> None:
        if not exporter.alive:
            return
        if self.chance(self.scenario.exporter / 20):
            self.tell(events.RunFailed(exporter.run, "DirectoryRefused", "locked"))
            self.close(exporter)
            return
        durable, passes = self.durable[exporter.run], self.corpora[exporter.run].passes
        before = tuple(frozenset(s for m, s in durable if m == n) for n in range(len(passes)))
        exporter.damaged = {key for key in sorted(durable) if self.chance(self.scenario.damage)}
        self.later(self.soon(5), self.scrub, exporter)
        self.tell(events.RunOpened(exporter.run, before))

    def scrub(self, exporter: Exporter) -> None:
        """What earlier sessions committed is read again, and what is damaged goes."""
        if not exporter.alive or not self.current(exporter):
            return
        for key in sorted(exporter.damaged):
            exporter.damaged.discard(key)
            del self.durable[exporter.run][key]
            self.tell(events.SegmentDamaged(exporter.run, *key))
        self.tell(events.Scrubbed(exporter.run))

    def do_ForwardResult(self, action: actions.ForwardResult) -> None:
        self.give(action, set(range(action.start, action.stop)))

    def do_QuarantineRows(self, action: actions.QuarantineRows) -> None:
        self.quarantine(action, set(range(action.start, action.stop)))

    def do_FillSegment(self, action: actions.FillSegment) -> None:
        """Rows that the model did not compute; of a segment that is complete there are none."""
        key, rows = (action.pass_index, action.segment), self.corpora[action.run].rows[action.segment]
        if missing := set(range(rows)) - self.exporters[action.run].given[key]:
            self.quarantine(action, missing)

    def quarantine(self, action: actions.QuarantineRows | actions.FillSegment, rows: set[int]) -> None:
        self.exporters[action.run].quarantined[action.pass_index, action.segment] |= rows
        self.give(action, rows)

    def give(
        self, action: actions.ForwardResult | actions.QuarantineRows | actions.FillSegment, rows: set[int]
    ) -> None:
        exporter, key = self.exporters[action.run], (action.pass_index, action.segment)
        exporter.given[key] |= rows
        if len(exporter.given[key]) == self.corpora[action.run].rows[action.segment]:
            self.later(self.soon(3), self.commit, exporter, key)

    def commit(self, exporter: Exporter, key: tuple[int, int]) -> None:
        """The file stands; the news of it may be lost with the exporter."""
        if not exporter.alive:
            return
        if self.chance(self.scenario.exporter / 50):
            self.tell(events.RunFailed(exporter.run, "DiskFull", "no space left"))
            return
        require(key not in self.durable[exporter.run], "a segment is committed once", exporter.run, key)
        self.durable[exporter.run][key] = exporter.quarantined[key]
        self.later(self.soon(), self.acknowledge, exporter, events.SegmentCommitted(exporter.run, *key))

    def acknowledge(self, exporter: Exporter, event: events.SegmentCommitted) -> None:
        if self.current(exporter):
            self.tell(event)

    def exporter_dies(self, exporter: Exporter) -> None:
        if exporter.alive and self.current(exporter):
            exporter.alive = False
            self.later(self.soon(), self.lost, exporter)

    def lost(self, exporter: Exporter) -> None:
        if self.current(exporter):
            self.tell(events.ExporterLost(exporter.run, "killed"))

    def do_CloseRun(self, action: actions.CloseRun) -> None:
        self.later(self.soon(2), self.close, self.exporters[action.run])

    def close(self, exporter: Exporter) -> None:
        if exporter.alive and self.current(exporter):
            exporter.alive = False
            self.tell(events.RunClosed(exporter.run))


def _device(uuid: str, kind: Any, *, auxiliary: bool = False, helper: bool = False) -> Device:
    auxiliary = auxiliary or helper
    return Device(uuid=uuid, kind=kind, name=uuid, memory=1 << 30, threads=1, auxiliary=auxiliary, helper=helper)


def _done(batch: actions.SendBatch) -> events.BatchDone:
    return events.BatchDone(batch.worker, batch.epoch, batch.batch, (batch.segment, batch.start, batch.stop))


def main() -> int:
    """Run many seeds; print those that fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:100", help="from:to")
    first, last = (int(part) for part in parser.parse_args().seeds.split(":"))
    began, steps, failed = time.perf_counter(), 0, 0
    for seed in range(first, last):
        world = World(seed)
        try:
            world.run()
        except Exception:  # noqa: BLE001 - any seed may fail in any way, and the others are still to be run
            failed += 1
            sys.stdout.write(f"seed {seed} ({world.scenario.name}), step {world.steps}, {world.now:.2f} s:\n")
            traceback.print_exc(limit=-3, file=sys.stdout)
        steps += world.steps
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{last - first} seeds, {steps} steps, {seconds:.1f} s, {failed} failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
