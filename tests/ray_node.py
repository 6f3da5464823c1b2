"""The test's side of what an actor runs on a node, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psutil
from embedfleet.client.ray.node.job import NodeJob
from embedfleet.client.ray.node_runner import NodeRunner, ShardReport


class Node:
    """A runner, and all that it has reported. `ended`: the last report of each shard that has ended or is back."""

    def __init__(self, job: NodeJob) -> None:
        self.runner = NodeRunner(job)
        self.ended: dict[int, ShardReport] = {}
        self.messages: list[tuple[int, str]] = []
        self.at_work: set[int] = set()

    def hand(self, shard: int) -> None:
        self.ended.pop(shard, None)
        self.runner.hand(shard, False)

    def until(self, found: Callable[[], Any], seconds: float = 60.0) -> None:
        """Ask until it is so."""
        end = time.monotonic() + seconds
        while not found():
            assert time.monotonic() < end, f"not within {seconds} s; {self.ended}; {self.messages}"
            for one in self.runner.poll():
                assert one.shard not in self.ended, "a shard that has ended is forgotten"
                self.messages += [(one.shard, line) for line in one.messages]
                if one.progress is not None:
                    self.at_work.add(one.shard)
                if one.code is not None or one.is_back:
                    self.ended[one.shard] = one
            time.sleep(0.05)

    def codes(self) -> dict[int, int | None]:
        return {shard: one.code for shard, one in self.ended.items()}

    @property
    def process(self) -> psutil.Process:
        """The one child of the runner."""
        (child,) = [one for one in psutil.Process().children() if "embedfleet.client.ray.node.process" in one.cmdline()]
        return child

    def close(self) -> None:
        """End it in order."""
        self.runner.stop(terminate=True)
        self.runner.finish()
