"""ShardBoard: which shards wait, run, are done or have failed. Pure: no Ray, no clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

MOST_FAILURES = 3
"""Attempts that end with an error, after which a shard is given up."""
MOST_LOSSES = 6
"""Attempts that lose their node or actor, after which a shard is given up: the shard may be the cause."""
PAUSE_SECONDS = 5.0
"""The pause before a shard is tried again: the process that wrote to its folder may not have ended yet."""


@dataclass(slots=True)
class _Attempts:
    failures: int = 0
    losses: int = 0
    not_before: float = 0.0
    reason: str = ""


_NONE = _Attempts()


class ShardBoard:
    """The shards `left` of a run, by number. `count` is the number of all shards, those done before included."""

    def __init__(self, count: int, left: Iterable[int]) -> None:
        self.count = count
        self._waiting = deque(left)
        self._done = count - len(self._waiting)
        self._running: dict[int, str] = {}
        """By shard, the node that has it."""
        self._attempts: dict[int, _Attempts] = {}
        self.failed: dict[int, str] = {}
        """The last reason of each shard that was given up."""

    @property
    def done(self) -> int:
        return self._done

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether every shard is done or given up."""
        return not self._waiting and not self._running

    def take(self, node: str, now: float) -> int | None:
        """A shard for an idle node; None if there is none now."""
        shard = next((one for one in self._waiting if self._of(one).not_before <= now), None)
        if shard is not None:
            self._waiting.remove(shard)
            self._running[shard] = node
        return shard

    def is_first(self, shard: int) -> bool:
        """Whether the shard was never tried."""
        attempts = self._of(shard)
        return not attempts.failures and not attempts.losses

    def finish(self, shard: int) -> None:
        """A shard is done."""
        del self._running[shard]
        self._done += 1

    def fail(self, shard: int, reason: str, now: float) -> bool:
        """An attempt ended with an error. Whether the shard will be tried again."""
        attempts = self._attempts.setdefault(shard, _Attempts())
        attempts.failures += 1
        return self._again(shard, attempts, reason, now, attempts.failures < MOST_FAILURES)

    def lose(self, shard: int, reason: str, now: float) -> bool:
        """The node or the actor of a shard was lost. Whether the shard will be tried again."""
        attempts = self._attempts.setdefault(shard, _Attempts())
        attempts.losses += 1
        return self._again(shard, attempts, reason, now, attempts.losses < MOST_LOSSES)

    def _again(self, shard: int, attempts: _Attempts, reason: str, now: float, again: bool) -> bool:
        del self._running[shard]
        attempts.reason, attempts.not_before = reason, now + PAUSE_SECONDS * (attempts.failures + attempts.losses - 1)
        if again:
            self._waiting.appendleft(shard)  # it has a part of its rows: the sooner it is done, the less is open
        else:
            self.failed[shard] = reason
        return again

    def _of(self, shard: int) -> _Attempts:
        return self._attempts.get(shard, _NONE)
