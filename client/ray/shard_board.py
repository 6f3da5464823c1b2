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
"""Before a shard is tried again."""
WRITING_SECONDS, WRITING_PAUSE_SECONDS = 600.0, 30.0
"""How long another run may write to the folder of a shard, before that counts as a loss, and the pause until the next look:
the process of a lost node may live on, and so may its lock on a shared file system."""


@dataclass(slots=True)
class _Attempts:
    failures: int = 0
    losses: int = 0
    not_before: float = 0.0
    has_begun: bool = False
    writing_since: float | None = None


_NONE = _Attempts()


class ShardBoard:
    """The shards `left` of a run, by number. `count` is the number of all shards, those done before included.

    `lost_last`: a shard whose node was lost waits until no other does, since the lock of that node has to expire first.
    """

    def __init__(self, count: int, left: Iterable[int], *, lost_last: bool = False) -> None:
        self.count, self._lost_last = count, lost_last
        self._waiting = deque(left)
        self._done = count - len(self._waiting)
        self._running: dict[int, str] = {}
        """By shard, the node that has it. A node has the shard that it works on, and perhaps a next one."""
        self._attempts: dict[int, _Attempts] = {}
        self.failed: dict[int, str] = {}
        """The last reason of each shard that was given up."""

    @property
    def done(self) -> int:
        return self._done

    @property
    def running(self) -> int:
        """How many shards are embedded: one on each node that has any."""
        return len(set(self._running.values()))

    @property
    def left(self) -> int:
        """How many shards are neither embedded nor done nor given up."""
        return len(self._waiting) + len(self._running) - self.running

    @property
    def waiting(self) -> int:
        """How many shards no node has."""
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether every shard is done or given up."""
        return not self._waiting and not self._running

    def take(self, node: str, now: float) -> int | None:
        """A shard for a node, to be embedded after those that it has; None if there is none now."""
        shard = next((one for one in self._waiting if self._of(one).not_before <= now), None)
        if shard is not None:
            self._waiting.remove(shard)
            self._running[shard] = node
        return shard

    def is_first(self, shard: int) -> bool:
        """Whether no attempt at the shard has got as far as its work."""
        return not self._of(shard).has_begun

    def begin(self, shard: int) -> None:
        """An attempt at the shard works on it: what --restart removes is gone."""
        self._attempts.setdefault(shard, _Attempts()).has_begun = True

    def put_back(self, shard: int) -> None:
        """A node has not begun the shard, and will not: it waits again, as before."""
        del self._running[shard]
        self._waiting.appendleft(shard)

    def finish(self, shard: int) -> None:
        """A shard is done."""
        del self._running[shard]
        self._done += 1

    def fail(self, shard: int, reason: str, now: float) -> bool:
        """An attempt ended with an error. Whether the shard will be tried again."""
        attempts = self._attempts.setdefault(shard, _Attempts())
        attempts.failures, attempts.writing_since = attempts.failures + 1, None
        return self._again(shard, attempts, reason, now, attempts.failures < MOST_FAILURES)

    def lose(self, shard: int, reason: str, now: float) -> bool:
        """The node or the actor of a shard was lost. Whether the shard will be tried again."""
        attempts = self._attempts.setdefault(shard, _Attempts())
        attempts.losses, attempts.writing_since = attempts.losses + 1, None
        again = self._again(shard, attempts, reason, now, attempts.losses < MOST_LOSSES)
        if again and self._lost_last:
            self._waiting.append(self._waiting.popleft())
        return again

    def wait(self, shard: int, reason: str, now: float) -> bool:
        """Another run writes to the folder of a shard, or its store does not answer. Whether the shard will be tried again: it
        counts as a loss only if that has lasted for WRITING_SECONDS."""
        attempts = self._attempts.setdefault(shard, _Attempts())
        since = now if attempts.writing_since is None else attempts.writing_since
        is_loss = now - since >= WRITING_SECONDS
        attempts.losses += is_loss
        again = self._again(shard, attempts, reason, now, not is_loss or attempts.losses < MOST_LOSSES)
        attempts.writing_since, attempts.not_before = since, now + WRITING_PAUSE_SECONDS
        return again

    def _again(self, shard: int, attempts: _Attempts, reason: str, now: float, again: bool) -> bool:
        del self._running[shard]
        attempts.not_before = now + PAUSE_SECONDS * (attempts.failures + attempts.losses - 1)
        if again:
            self._waiting.appendleft(shard)  # it has a part of its rows: the sooner it is done, the less is open
        else:
            self.failed[shard] = reason
        return again

    def _of(self, shard: int) -> _Attempts:
        return self._attempts.get(shard, _NONE)
