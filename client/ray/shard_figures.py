"""ShardFigures: the progress of all shards in one view, from the reports of the nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..output.formatting import percent, pluralize
from ..output.progress_rows import clock


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run now."""

    shards: int
    done: int
    running: int
    left: int
    """Shards that wait."""
    failed: int
    nodes: int
    rows: int
    """Rows that have their vectors, for the pass that is furthest behind in each shard."""
    share: float
    """Part of the work that is done, 0 to 1."""
    rows_per_second: float
    seconds_left: float | None
    """None while it is not known."""

    def line(self) -> str:
        """The figures in one line."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        parts = [
            f"shards: {self.done:,} of {self.shards:,} done, {self.running:,} running, {self.left:,} left{failed}",
            f"on {pluralize(self.nodes, 'node')}",
            f"· {percent(self.share, 0)} · {pluralize(self.rows, 'row')}",
            f"· {self.rows_per_second:,.0f} rows/s" if self.rows_per_second else "",
            f"· ETA {clock(self.seconds_left)}" if self.seconds_left is not None else "",
        ]
        return " ".join(filter(None, parts))

    def to_json(self) -> dict[str, Any]:
        """The figures as `--progress json` shows them."""
        return {
            "shards": {
                "count": self.shards,
                "done": self.done,
                "running": self.running,
                "left": self.left,
                "failed": self.failed,
            },
            "nodes": self.nodes,
            "rows": self.rows,
            "unit": "rows",
            "share_done": round(self.share, 4),
            "rows_per_second": round(self.rows_per_second, 1),
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
        }


class ShardFigures:
    """Adds up the figures of `count` shards. `rows` are those of the shards that were done before; `now` is a steady clock's,
    in seconds."""

    def __init__(self, count: int, rows: Mapping[int, int], now: float) -> None:
        self._count, self._began = count, now
        self._done = dict(rows)
        self._open: dict[int, tuple[int, float]] = {}
        """By shard: rows, and the part of its work that is done."""
        self._rows_before, self._share_before = sum(rows.values()), len(rows) / count

    def progress(self, shard: int, figures: Mapping[str, Any]) -> None:
        """Take the newest figures of a shard. None is taken back: a shard that resumes counts from its start."""
        if shard in self._done:
            return
        rows = min((int(one["rows_done"]) for one in figures.get("passes", ())), default=0)
        before = self._open.get(shard, (0, 0.0))
        self._open[shard] = max(rows, before[0]), max(float(figures.get("share_done", 0.0)), before[1])

    def finish(self, shard: int, rows: int) -> None:
        """A shard is done."""
        self._open.pop(shard, None)
        self._done[shard] = rows

    def snapshot(self, now: float, *, running: int, left: int, failed: int, nodes: int) -> Snapshot:
        """The figures now."""
        rows = sum(self._done.values()) + sum(rows for rows, _ in self._open.values())
        share = min(1.0, (len(self._done) + sum(share for _, share in self._open.values())) / self._count)
        seconds, gained = max(now - self._began, 1e-9), share - self._share_before
        return Snapshot(
            shards=self._count,
            done=len(self._done),
            running=running,
            left=left,
            failed=failed,
            nodes=nodes,
            rows=rows,
            share=share,
            rows_per_second=(rows - self._rows_before) / seconds,
            seconds_left=seconds * (1 - share) / gained if gained > 0 else None,
        )
