"""How long would a billion chunks take on many nodes, of which one is lost each hour? A simulation, with no process started.

    python benchmarks/cluster_simulation.py [--chunks 1e9] [--shards 4096 512] [--nodes 32] [--gpus 8] [--rate 300]
        [--start 12] [--next 1] [--hours-between-losses 1] [--replacement 300] [--seeds 5] [--out FILE]

Shards are handed out by the driver's own model (`client/ray/shard_board.py`) and rule: a node has one shard at work on all its
GPUs, and another one behind it while more wait than there are nodes. `--rate` is chunks a second of one GPU, `--start` the
seconds from a node's first command to its first vector (processes and the model), `--next` the seconds that each more shard
costs, since the workers stay (`benchmarks/shards.py` measures them); a shard that was not handed ahead costs a `--start`.
`--commit` are the seconds of work that a lost node has not committed. A lost node comes back after `--replacement` seconds. The
ideal is that of all GPUs at work all the time. Lost nodes, and how even shards are (`--spread`, a share), are drawn from a
seeded generator; the worst seed counts.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from embedfleet.client.ray.shard_board import ShardBoard

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is simulated, in seconds and chunks."""

    chunks: float
    shards: int
    nodes: int
    rate: float
    """Chunks a second of one node."""
    start: float
    next: float
    commit: float
    between_losses: float
    replacement: float
    spread: float

    @property
    def ideal(self) -> float:
        """Seconds with all nodes at work all the time."""
        return self.chunks / (self.rate * self.nodes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulated run ended."""

    seconds: float
    losses: int
    attempts: int
    driver: float
    """Seconds that the model itself took, for all its decisions."""


@dataclass(slots=True)
class Node:
    """A node, its present shard, the one behind it, and when the first vector of the present one comes. `life` rises with each
    loss, so that events of an earlier life are void."""

    life: int = 0
    is_up: bool = True
    shard: int | None = None
    ahead: int | None = None
    first_vector: float = 0.0


class Simulation:
    """One run. Events are (when, number, kind, node, life), in the order of time."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster, self._random = cluster, random.Random(seed)
        sizes = [self._random.uniform(1 - cluster.spread, 1 + cluster.spread) for _ in range(cluster.shards)]
        self._left = [cluster.chunks * size / sum(sizes) for size in sizes]
        """Chunks of each shard that are not committed."""
        self._board = ShardBoard(cluster.shards, range(cluster.shards))
        self._nodes = [Node() for _ in range(cluster.nodes)]
        self._events: list[tuple[float, int, str, int, int]] = []
        self._number = self._losses = self._attempts = 0
        self._driver = 0.0

    def run(self) -> Outcome:
        """Run it to its end. RuntimeError if a shard was given up."""
        for node in range(len(self._nodes)):
            self._add(0.0, "idle", node)
        self._add(self._random.expovariate(1 / self._cluster.between_losses), "loss", 0)
        now = 0.0
        while not self._board.is_over:
            now, _, kind, number, life = heapq.heappop(self._events)
            if kind == "loss":
                self._lose(now)
            elif kind == "back" or self._nodes[number].life == life:
                self._work(kind, number, now)
        if self._board.failed:
            raise RuntimeError(f"shards were given up: {self._board.failed}")
        return Outcome(now, self._losses, self._attempts, self._driver)

    def _add(self, when: float, kind: str, node: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, kind, node, self._nodes[node].life))

    def _lose(self, now: float) -> None:
        """Lose a node that works, and with it what it has not committed."""
        cluster = self._cluster
        self._add(now + self._random.expovariate(1 / cluster.between_losses), "loss", 0)
        alive = [number for number, node in enumerate(self._nodes) if node.is_up]
        if not alive:
            return
        self._losses += 1
        number = self._random.choice(alive)
        node = self._nodes[number]
        node.is_up, node.life = False, node.life + 1
        if node.shard is not None:
            worked = max(0.0, now - node.first_vector - cluster.commit)
            self._left[node.shard] = max(0.0, self._left[node.shard] - worked * cluster.rate)
            if node.ahead is not None:
                self._decide(lambda shard=node.ahead: self._board.put_back(shard))
            self._decide(lambda shard=node.shard: self._board.lose(shard, "its node was lost", now))
            node.shard = node.ahead = None
        self._add(now + cluster.replacement, "back", number)

    def _work(self, kind: str, number: int, now: float) -> None:
        """Finish the shard of a node, if that is what happened, and give it another one."""
        node = self._nodes[number]
        node.is_up = True
        if kind == "done" and node.shard is not None:
            self._decide(lambda shard=node.shard: self._board.finish(shard))
        cluster, stays = self._cluster, node.ahead is not None
        node.shard, node.ahead = node.ahead if stays else self._take(number, now), None
        if node.shard is None:
            self._add(now + 1.0, "idle", number)
            return
        if self._board.waiting > sum(one.is_up for one in self._nodes):
            node.ahead = self._take(number, now)
        self._attempts += 1
        node.first_vector = now + (cluster.next if stays else cluster.start)
        self._add(node.first_vector + self._left[node.shard] / cluster.rate, "done", number)

    def _take(self, number: int, now: float) -> int | None:
        return self._decide(lambda: self._board.take(str(number), now))

    def _decide(self, decision: Callable[[], T]) -> T:
        """Take a decision of the driver's model, and note the time that it took."""
        begin = time.perf_counter()
        try:
            return decision()
        finally:
            self._driver += time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=float, default=1e9)
    parser.add_argument("--shards", type=int, nargs="+", default=[4096, 1024, 256])
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--rate", type=float, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--start", type=float, default=12.0)
    parser.add_argument("--next", type=float, default=1.0)
    parser.add_argument("--commit", type=float, default=30.0)
    parser.add_argument("--hours-between-losses", type=float, default=1.0)
    parser.add_argument("--replacement", type=float, default=300.0)
    parser.add_argument("--spread", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for rate in options.rate:
        for shards in options.shards:
            cluster = Cluster(
                chunks=options.chunks,
                shards=shards,
                nodes=options.nodes,
                rate=rate * options.gpus,
                start=options.start,
                next=options.next,
                commit=options.commit,
                between_losses=3600 * options.hours_between_losses,
                replacement=options.replacement,
                spread=options.spread,
            )
            worst = max((Simulation(cluster, seed).run() for seed in range(options.seeds)), key=lambda one: one.seconds)
            ratio = worst.seconds / cluster.ideal
            rows.append(
                {
                    "rate": rate,
                    "shards": shards,
                    "ideal_hours": cluster.ideal / 3600,
                    "hours": worst.seconds / 3600,
                    "ratio": ratio,
                    "losses": worst.losses,
                    "attempts": worst.attempts,
                    "driver_seconds": worst.driver,
                }
            )
            print(
                f"{rate:7,.0f} chunks/s a GPU, {shards:5,} shards: ideal {cluster.ideal / 3600:6.2f} h, simulated "
                f"{worst.seconds / 3600:6.2f} h, {ratio:.3f} x; {worst.losses} nodes lost, {worst.attempts:,} attempts; "
                f"the driver's decisions {worst.driver:.2f} s in all"
            )
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
