"""NodeSlots: an actor on each node that has what the run needs, in a placement group of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .node.job import NodeJob
from .node_runner import NodeRunner, ShardReport
from .nodes import Needs, Node

REPORT_SECONDS = 0.5
"""The time between two reports of an actor."""
UNREACHABLE_SECONDS = 60.0
"""How long an actor may be out of reach before it counts as lost."""
MOST_LOSSES = 3
"""Actors lost on a live node, without a finished shard, before the node is left out."""
NODE_LABEL = "ray.io/node-id"
MOST_REQUESTED = 4
"""Placement groups beyond the present nodes, at most. An autoscaler adds nodes for them."""


@dataclass(slots=True, eq=False)
class Slot:
    """One actor and its placement group. `node` is None until its node is known."""

    node: str | None
    group: Any
    actor: Any
    waits_for: Any
    """The call that has no answer yet; None: the actor is idle."""
    is_up: bool = False
    shards: list[int] = field(default_factory=list[int])
    """The shards that the actor has, in the order in which it got them. It works on the first."""
    asked: tuple[int, ...] = ()
    """The shards that it had when the pending report was requested."""
    again_at: float = 0.0
    """When to ask for the next report."""
    unreachable_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """An actor was lost, with the shards that it had: it worked on the first."""

    node: str
    shards: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Up:
    """An actor is ready for shards."""

    node: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A report from a node on one of its shards."""

    node: str
    report: ShardReport


@dataclass(frozen=True, slots=True)
class GroupPlaced:
    """A placement group that waited for a new node was placed on this one."""

    node: str


SlotEvent = Lost | Up | GroupPlaced | Reported


@dataclass(slots=True)
class NodeSlots:
    """The actors of a run. No call waits for long; `events` returns what has happened."""

    ray: Any
    needs: Needs
    job: NodeJob
    _slots: list[Slot] = field(default_factory=list[Slot])
    _losses: dict[str, int] = field(default_factory=dict[str, int])

    def cover(self, nodes: Iterable[Node]) -> None:
        """Give an actor to each of these nodes that has none, unless it has lost too many."""
        taken = {slot.node for slot in self._slots}
        for node in nodes:
            if node.id not in taken and self._losses.get(node.id, 0) < MOST_LOSSES:
                self._slots.append(self._make(node.share(gpus=self.needs.gpus), node.id))

    def request_nodes(self, share: dict[str, float], count: int) -> None:
        """Ask for up to `count` more nodes of this size: by placement groups that wait for room, which an autoscaler makes.

        A group that gets room is removed: `cover` then takes the whole node."""
        waiting = [slot for slot in self._slots if slot.node is None]
        for slot in waiting[count:]:
            self._remove(slot)
        for _ in range(min(count, MOST_REQUESTED) - len(waiting)):
            self._slots.append(self._make(share, None))

    def drop_others(self, nodes: Iterable[str]) -> None:
        """Give up the actors that are not up yet on nodes that are gone."""
        alive = set(nodes)
        for slot in list(self._slots):
            if slot.node is not None and not slot.is_up and slot.node not in alive:
                self._remove(slot)

    def idle(self) -> list[str]:
        """The nodes whose actor has nothing to do."""
        return [slot.node for slot in self._slots if slot.is_up and not slot.shards and slot.node is not None]

    def with_one(self) -> list[str]:
        """The nodes whose actor has one shard, and could take the next one behind it."""
        return [slot.node for slot in self._slots if len(slot.shards) == 1 and slot.node is not None]

    @property
    def coming(self) -> int:
        """How many nodes will have an actor once their devices are free."""
        return sum(not slot.is_up and slot.node is not None for slot in self._slots)

    @property
    def up(self) -> int:
        """How many nodes work, or are ready to."""
        return sum(slot.is_up for slot in self._slots)

    @property
    def busy(self) -> int:
        return sum(bool(slot.shards) for slot in self._slots)

    def hand(self, node: str, shard: int, *, restart: bool) -> None:
        """Have an actor embed a shard, after those that it has."""
        slot = next(one for one in self._slots if one.node == node and one.is_up)
        slot.shards.append(shard)
        slot.actor.hand.remote(shard, restart)  # its reports show whether that has arrived

    def stop(self, *, terminate: bool) -> None:
        """End what the actors run, see `NodeRunner.stop`."""
        for slot in self._slots:
            if slot.shards:
                slot.actor.stop.remote(terminate=terminate)

    def finish(self, seconds: float) -> None:
        """Let the actors end their processes in order, since they have no more shards. Waits for that up to `seconds`."""
        calls = [slot.actor.finish.remote() for slot in self._slots if slot.is_up]
        if calls:
            self.ray.wait(calls, num_returns=len(calls), timeout=seconds)

    def events(self, seconds: float) -> Iterator[SlotEvent]:
        """What has happened since the last call. Waits for it up to `seconds`."""
        now = time.monotonic()
        for slot in self._slots:
            if slot.shards and slot.waits_for is None and slot.again_at <= now:
                slot.waits_for, slot.asked = slot.actor.poll.remote(), tuple(slot.shards)
        waiting = {slot.waits_for: slot for slot in self._slots if slot.waits_for is not None}
        if not waiting:
            time.sleep(seconds)
            return
        ready, _ = self.ray.wait(list(waiting), num_returns=len(waiting), timeout=seconds)
        for answer in ready:
            slot = waiting[answer]
            if slot not in self._slots:
                continue
            slot.waits_for = None
            try:
                yield from self._answered(slot, self.ray.get(answer))
            except self.ray.exceptions.ActorUnavailableError as error:
                yield from self._unreachable(slot, error)
            except (self.ray.exceptions.RayError, RuntimeError) as error:
                yield self._lost(slot, error)

    def close(self) -> None:
        """End all actors, and what they run."""
        for slot in list(self._slots):
            self._remove(slot)

    def _make(self, share: dict[str, float], node: str | None) -> Slot:
        strategies = import_module("ray.util.scheduling_strategies")
        where = [{NODE_LABEL: node}] if node is not None else None
        group = self.ray.util.placement_group([share], strategy="STRICT_PACK", bundle_label_selector=where)
        strategy = strategies.PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
        actor = (
            self.ray.remote(NodeRunner)
            .options(
                num_cpus=share.get("CPU", 0),
                num_gpus=share.get("GPU", 0),
                scheduling_strategy=strategy,
                max_restarts=0,
                max_task_retries=0,
            )
            .remote(self.job)
        )
        return Slot(node, group, actor, actor.node.remote())

    def _answered(self, slot: Slot, answer: Any) -> Iterator[SlotEvent]:
        slot.unreachable_since = 0.0
        if not slot.is_up:
            yield from self._arrived(slot, answer)
            return
        reports: dict[int, ShardReport] = {one.shard: one for one in answer}
        if not reports.keys() >= set(slot.asked):
            yield self._lost(slot, "it was out of reach, and knows nothing of the shard: it never began, or has ended")
            return
        slot.again_at = time.monotonic() + REPORT_SECONDS
        for shard, report in reports.items():
            if report.code is not None or report.is_back:
                slot.shards.remove(shard)
            if report.code in (0, 3):
                self._losses.pop(slot.node or "", None)
            yield Reported(slot.node or "", report)

    def _arrived(self, slot: Slot, node: str) -> Iterator[SlotEvent]:
        if slot.node is None:
            self._remove(slot)
            yield GroupPlaced(node)
            return
        slot.is_up = True
        yield Up(node)

    def _unreachable(self, slot: Slot, error: Exception) -> Iterator[SlotEvent]:
        now = time.monotonic()
        slot.unreachable_since = slot.unreachable_since or now
        if now - slot.unreachable_since > UNREACHABLE_SECONDS or not slot.is_up:
            yield self._lost(slot, error)
        else:
            slot.again_at = now + REPORT_SECONDS

    def _lost(self, slot: Slot, error: Exception | str) -> Lost:
        self._remove(slot)
        if slot.node is not None:
            self._losses[slot.node] = self._losses.get(slot.node, 0) + 1
        return Lost(slot.node or "", tuple(slot.shards), str(error).strip().split("\n", 1)[0][:300])

    def _remove(self, slot: Slot) -> None:
        self._slots.remove(slot)
        with contextlib.suppress(Exception):  # the actor, its node or the cluster may be lost
            self.ray.kill(slot.actor)
        with contextlib.suppress(Exception):  # likewise
            self.ray.util.remove_placement_group(slot.group)
