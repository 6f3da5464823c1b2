"""ShardEndings: what the end of a shard's command says of the shard, and of all others. Pure: no Ray, no clock."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ...protocol.errors import (
    EXIT_DONE,
    EXIT_HUNG_UP,
    EXIT_INTERRUPTED,
    EXIT_QUARANTINED,
    EXIT_TERMINATED,
    EXIT_USAGE,
)
from ...protocol.object_storage.failures import may_return
from ...protocol.run_directory.directory_lock import WRITING
from ...protocol.run_directory.layout import RunLayout
from ..output.formatting import pluralize

INTERRUPTED = (EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_HUNG_UP)
MOST_NAMED = 3
"""Failed shards that an error names."""

Verdict = Literal["done", "writing", "away", "lost", "failed", "general"]


class ShardEndings:
    """Judges how shards in `out` ended. Exit code 2 has two kinds of causes: a flag or a model, which would meet every shard,
    and a disk or a store, which may be well again at the next attempt. The same reason at a second place tells them apart."""

    def __init__(self, out: str) -> None:
        """`out` is a folder or an address, as the errors of shards name it."""
        self._out = out
        self._places: dict[str, set[tuple[str, int]]] = {}
        """By reason, the nodes and shards that ended with it and code 2."""

    def judge(self, node: str, shard: int, code: int, error: str) -> Verdict:
        """`writing`: another run has the folder; `away`: the store does not answer now; `lost`: the node was preempted;
        `general`: every shard would have this error."""
        if code in (EXIT_DONE, EXIT_QUARANTINED):
            return "done"
        if WRITING in error:  # who had the shard before is not gone yet
            return "writing"
        if may_return(error):  # every shard would have this error now; this one is not its cause
            return "away"
        if code in INTERRUPTED:  # preempted there
            return "lost"
        return "general" if code == EXIT_USAGE and self._is_general(node, shard, error) else "failed"

    def _is_general(self, node: str, shard: int, error: str) -> bool:
        reason = error.replace(f"{self._out}/{RunLayout(Path()).shard(shard).root}", self._out)
        places = self._places.setdefault(reason, set())
        places.add((node, shard))
        return len(places) > 1


def failures(failed: dict[int, str], count: int) -> str:
    """The error for shards that were given up, of `count`."""
    shown = "; ".join(failed[shard] for shard in sorted(failed)[:MOST_NAMED])
    more = len(failed) - MOST_NAMED
    return (
        f"{len(failed):,} of {pluralize(count, 'shard')} could not be run: {shown}"
        + (f"; and {more:,} more" if more > 0 else "")
        + ". The others are done; the same command tries these again"
    )
