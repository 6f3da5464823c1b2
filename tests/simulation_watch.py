"""The invariants of the simulation: what holds after every step of a world, and at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedfleet.coordinator.core import actions, events
from embedfleet.coordinator.core.batching import GROWTH
from embedfleet.coordinator.core.state import RunStatus, WorkerStage

if TYPE_CHECKING:
    from .simulation import World

MANY = 10**6
ROW_BYTES = 1000


def require(held: bool, what: str, *about: Any) -> None:
    if not held:
        raise AssertionError(f"{what}: {about}")


@dataclass(slots=True)
class Measured:
    """What a worker computed so far, by the times at which the pool heard of it."""

    since: float = 0.0
    """When its first batch became the first."""
    tokens: int = 0
    pace: float = float("inf")
    """The fewest seconds a token that a batch took."""

    def computed(self, tokens: int, now: float) -> None:
        self.tokens += tokens
        self.pace = min(self.pace, (now - self.since) / tokens)


class Watch:
    """The invariants."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hydrated: dict[str, str] = {}
        """Device to worker."""
        self.held: dict[str, list[int]] = defaultdict(list)
        self.sent: dict[int, actions.SendBatch] = {}
        self.measured: dict[str, Measured] = defaultdict(Measured)
        """By worker."""
        self.broken: set[tuple[str, int]] = set()
        """Submissions of runs with a model that does not load."""
        self.given_up: set[tuple[str, int]] = set()
        """Runs and passes that the exporter filled."""

    def before(self, event: events.Event) -> None:
        match event:
            case events.BatchDone() | events.BatchFailed() if self._is_held(event):
                self.held[event.worker].remove(event.batch)
                measured = self.measured[event.worker]
                if isinstance(event, events.BatchDone):
                    measured.computed(self._computed_tokens(event.batch), self.world.now)
                measured.since = self.world.now
            case events.WorkerDied():
                self.held.pop(event.worker, None)
            case events.WorkerExited():
                self._ended(event.worker)
            case events.HostLeft():
                for process in self.world.processes.values():
                    if process.host == event.host:
                        self._ended(process.name)
            case _:
                pass

    def _is_held(self, event: events.BatchDone | events.BatchFailed) -> bool:
        """Whether it is of a batch that the worker has, and not of an ended lease."""
        process = self.world.processes[event.worker]
        return event.epoch == process.epoch and event.batch in self.held[event.worker]

    def _ended(self, worker: str) -> None:
        self.held.pop(worker, None)
        self.hydrated = {device: one for device, one in self.hydrated.items() if one != worker}

    def asked(self, action: actions.Action) -> None:
        """Check what the pool asks for, by the method that has the action's name."""
        check = getattr(self, f"on_{type(action).__name__}", None)
        if check is not None:
            check(action)

    def on_HydrateWorker(self, action: actions.HydrateWorker) -> None:
        device = self.world.processes[action.worker].device
        free = self.hydrated.get(device, action.worker) == action.worker
        require(free, "one hydrated worker a device", device, action)
        self.hydrated[device] = action.worker

    def on_SpawnWorker(self, action: actions.SpawnWorker) -> None:
        fleet = self.world.pool.fleet
        given_up = fleet.devices[action.device].health.given_up(fleet.workers[action.worker].pass_index)
        require(not given_up, "no lease of a device given up", action)

    def on_StageWorker(self, action: actions.StageWorker) -> None:
        device = self.world.pool.fleet.devices[self.world.processes[action.worker].device].device
        plan = self.world.corpora[action.run].passes[action.pass_index]
        if device.helper:
            serves = plan.light
        elif plan.cpu_only:
            serves = device.kind == "cpu"
        else:
            serves = not device.auxiliary or self._cpu_fallback(action.run, action.pass_index)
        require(serves, "a device serves the passes that it can", device, action)
        loaded = self.world.processes[action.worker].loaded
        require(loaded is None or loaded == plan.loads != "", "a worker stays for what it has loaded", action)

    def on_SendBatch(self, action: actions.SendBatch) -> None:
        holders = [worker for worker, batches in self.held.items() if action.batch in batches]
        require(not holders, "a batch is with one worker", action, holders)
        process = self.world.processes[action.worker]
        mine = (action.run, self.world.submissions[action.run], action.pass_index)
        require(process.serves == mine, "a worker gets its own pass", process, action)
        if not self.held[action.worker]:
            self.measured[action.worker].since = self.world.now
        self._has_its_size(action, process.bounds)
        self.held[action.worker].append(action.batch)
        self.sent[action.batch] = action
        require(len(self.held[action.worker]) <= self.world.config.credit, "credit", action)

    def _has_its_size(self, action: actions.SendBatch, bounds: tuple[int, int]) -> None:
        """A batch has one cut, or as many as its worker computes in time; one that was blamed is sent as it was, or halved."""
        batch, before = self.world.pool.fleet.batches[action.batch], self.sent.get(action.batch)
        if batch.failures or batch.isolated:
            same = before is None or (before.start, before.stop) == (action.start, action.stop)
            require(same, "a blamed batch is sent as it was", action, before)
            return
        cuts = self._cuts(action)
        whole = [cuts[0].start, cuts[-1].stop] == [action.start, action.stop] if cuts else False
        require(whole, "a batch ends where a cut ends", action, cuts)
        if len(cuts) < 2:
            return
        tokens, measured = self._tokens(action), self.measured[action.worker]
        require(tokens <= bounds[0] and action.stop - action.start <= bounds[1], "bounds of a batch", action, bounds)
        require(tokens <= GROWTH * measured.tokens, "a batch grows by what is known", action, measured)
        seconds = tokens * measured.pace
        require(
            seconds <= self.world.config.batch_seconds * 1.001, "a batch lasts as long as it should", action, seconds
        )

    def _cuts(self, action: actions.SendBatch) -> list[events.Cut]:
        cuts = self.world.corpora[action.run].cuts[action.pass_index, action.segment]
        return [cut for cut in cuts if action.start < cut.stop and cut.start < action.stop]

    def _computed_tokens(self, number: int) -> int:
        """Of a batch that was computed. A half of a blamed batch has an estimate, which is taken from the pool."""
        batch = self.world.pool.fleet.batches.get(number)
        return batch.tokens if batch is not None and batch.isolated else self._tokens(self.sent[number])

    def _tokens(self, action: actions.SendBatch) -> int:
        """Of its cuts; of one that it has in part, all."""
        return sum(cut.tokens for cut in self._cuts(action))

    def on_CutSegment(self, action: actions.CutSegment) -> None:
        key, exporter = (action.pass_index, action.segment), self.world.exporters[action.run]
        require(key not in exporter.cut, "a segment is opened once", action)
        require(key not in self.world.durable[action.run], "no committed segment is computed", action)
        exporter.cut.add(key)
        one = self.world.pool.fleet.runs[action.run].passes[action.pass_index]
        held = sum(segment.rows for segment in one.open.values()) * ROW_BYTES
        require(len(one.open) <= 2 or held <= self.world.config.uncommitted_bytes, "uncommitted bytes", action, held)

    def on_ForwardResult(self, action: actions.ForwardResult) -> None:
        self._given_once(action)
        require(action.payload == (action.segment, action.start, action.stop), "no result is crossed", action)

    def on_QuarantineRows(self, action: actions.QuarantineRows) -> None:
        self._given_once(action)
        key = (action.pass_index, action.segment, action.start)
        poison = action.stop - action.start == 1 and key in self.world.corpora[action.run].poison
        require(poison, "only poison is given up", action)

    def on_FillSegment(self, action: actions.FillSegment) -> None:
        corpus, fleet = self.world.corpora[action.run], self.world.pool.fleet
        run, plan = fleet.runs[action.run], corpus.passes[action.pass_index]
        reason = run.passes[action.pass_index].given_up
        require(reason != "" and action.reason == reason, "only a pass that is given up is filled", action)
        require(plan.fallback, "only a pass with a fallback is filled", action)
        weighted = plan.given_up != "" or any(segment >= corpus.weighted for segment in run.segments)
        require(weighted, "a chunk has weights to fill with", action)
        key, exporter = (action.pass_index, action.segment), self.world.exporters[action.run]
        require(key not in exporter.filled, "a segment is filled once", action)
        known = run.passes[action.pass_index].committed  # the news of a segment that is complete may be under way
        require(action.segment not in known, "no committed segment is filled", action)
        held = [one for one in fleet.batches.values() if (one.pass_index, one.segment) == key]
        require(not held, "batches in hand are waited for", action, held)
        exporter.filled.add(key)
        self.given_up.add((action.run, action.pass_index))

    def on_CloseRun(self, action: actions.CloseRun) -> None:
        if action.status == "done":
            done = self.world.durable[action.run].keys() == self.world.corpora[action.run].keys()
            require(done, "a run that is done is all committed", action)
            require(not self.world.exporters[action.run].damaged, "a run that is done is whole", action)
        elif action.status == "failed":
            self._may_fail(action)

    def on_RunOver(self, action: actions.RunOver) -> None:
        if action.status == "failed":
            self._may_fail(action)

    def _given_once(self, action: actions.ForwardResult | actions.QuarantineRows) -> None:
        given = self.world.exporters[action.run].given[action.pass_index, action.segment]
        require(given.isdisjoint(range(action.start, action.stop)), "no row is given twice", action)

    def _may_fail(self, action: actions.CloseRun | actions.RunOver) -> None:
        if "given up" in action.error:
            devices = self.world.pool.fleet.devices.values()
            plans = self.world.corpora[action.run].passes
            spare = [self._cpu_fallback(action.run, pass_index) for pass_index in range(len(plans))]
            able = [[d for d in devices if p.light or not d.device.helper] for p in plans]
            serving = [[d for d in able[n] if d.device.kind == "cpu" if p.cpu_only] or
                       [d for d in able[n] if spare[n] or not d.device.auxiliary if not p.cpu_only]
                       for n, p in enumerate(plans)]  # fmt: skip
            run = self.world.pool.fleet.runs.get(action.run)
            unaided = run is not None and not run.has_weights and any(one.broken for one in run.passes)
            hopeless = (
                isinstance(action, actions.RunOver)
                or unaided
                or any(
                    all(slot.health.given_up(pass_index) for slot in slots) for pass_index, slots in enumerate(serving)
                )
            )
            require(hopeless and self.world.config.device_failures < MANY, "a device was left", action)
            return
        if action.kind == "ModelBroken":
            mine = (action.run, self.world.submissions[action.run])
            require(mine in self.broken, "a run fails for its own models", action)
            return
        known = ("DirectoryRefused", "DiskFull")
        often = self.world.config.exporter_failures < MANY and "the exporter ended 3 times" in action.error
        require(action.kind in known or often, "a run fails for a reason", action)

    def _cpu_fallback(self, run: str, pass_index: int) -> bool:
        """Whether CPU slots beside GPUs may do their work: it was asked for, and every GPU is given up."""
        working = [slot for slot in self.world.pool.fleet.devices.values() if not slot.device.auxiliary]
        return (
            self.world.corpora[run].options.cpu_fallback
            and bool(working)
            and all(slot.health.given_up(pass_index) for slot in working)
        )

    def after(self) -> None:
        fleet = self.world.pool.fleet
        for worker in fleet.workers.values():
            require(len(worker.batches) <= fleet.config.credit, "credit", worker)
        if self.world.steps % 8 == 0:
            self._covered()
        self._stay_with_a_reason()

    def _stay_with_a_reason(self) -> None:
        """A worker that is ready belongs to the run that computes; between two runs, to one that is still to begin."""
        fleet, run = self.world.pool.fleet, self.world.pool.fleet.current
        for worker in fleet.workers.values():
            if worker.stage is WorkerStage.READY and not worker.killed and not worker.batches:
                if run is not None and run.status is RunStatus.RUNNING:
                    require(worker.run == run.name, "no worker of another run has a device", worker)
                elif worker.run == "":
                    coming = [one.plan.loads for one in run.passes] if run is not None else []
                    require(worker.loads in coming, "a worker stays for the next run", worker, coming)

    def _covered(self) -> None:
        """Each row of a segment that is cut: given to the exporter, pending or in flight, once; or to be filled."""
        fleet = self.world.pool.fleet
        run = fleet.current
        if run is None or run.status is not RunStatus.RUNNING:
            return
        places = Counter(
            batch for worker in fleet.workers.values() for batch in worker.batches if batch in fleet.batches
        )
        places.update(batch for one in run.passes for batch in one.pending)
        require(set(places) == set(fleet.batches), "every batch is somewhere", places, fleet.batches)
        require(all(count == 1 for count in places.values()), "a batch is in one place", places)
        waiting = {batch for one in run.passes for batch in one.pending}
        flying = {batch_id for batch_id, batch in fleet.batches.items() if batch.in_flight}
        require(flying.isdisjoint(waiting) and len(flying) + len(waiting) == len(places), "in flight or not", places)
        rows: Counter[tuple[int, int]] = Counter()
        for batch in fleet.batches.values():
            rows[batch.pass_index, batch.segment] += batch.rows
            given = self.world.exporters[run.name].given[batch.pass_index, batch.segment]
            require(given.isdisjoint(range(batch.start, batch.stop)), "no row is computed again", batch)
        for pass_index, one in enumerate(run.passes):
            for segment, opened in one.open.items():
                given = self.world.exporters[run.name].given[pass_index, segment]
                computed = rows[pass_index, segment]
                waits = one.given_up != "" and computed > 0  # the rest is filled behind them
                covered = opened.cutting or waits or computed + len(given) == opened.rows
                require(covered, "every row is somewhere", run.name, pass_index, segment)
            for segment, most in run.segments.items():
                known = segment in one.open or segment in one.uncut or segment in one.committed
                given = self.world.exporters[run.name].given[pass_index, segment]
                require(known or len(given) == most, "every segment is somewhere", run.name, pass_index, segment)

    def at_end(self) -> None:
        world = self.world
        require(not world.pool.fleet.runs and not world.pool.fleet.batches, "nothing is left over", world.pool.fleet)
        for run, over in world.over.items():
            durable = world.durable[run]
            quarantined = {(*key, row) for key, rows in durable.items() for row in rows}
            poison = {row for row in world.corpora[run].poison if row[:2] in durable}
            computed = {row for row in quarantined if (run, row[0]) not in world.watch.given_up}
            require(poison <= quarantined, "poison is quarantined", run, poison - quarantined)
            require(computed <= poison, "only poison is quarantined", run, computed - poison)
            require(over.status == "failed" or durable.keys() == world.corpora[run].keys(), "all is committed", run)
