"""The driver of a run on a Ray cluster: hands out shards to nodes, and takes them back from those that are lost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import EmbedfleetError, RunFailed, UsageError, describe_exit
from ..output.formatting import pluralize
from ..output.messages import messages
from ..steps.session import Interrupted
from .finished_shards import FinishedShards
from .marks import SHARED_SECONDS
from .node.job import NodeJob
from .node_runner import FINISH_SECONDS, ShardReport
from .node_slots import GroupPlaced, Lost, NodeSlots, Reported, SlotEvent, Up
from .node_watch import NodeWatch
from .shard_board import ShardBoard
from .shard_endings import ShardEndings, failures
from .shard_figures import ShardFigures
from .shards_view import ShardsView

LOOK_SECONDS = 2.0
"""The time between two looks at the nodes of the cluster."""
STEP_SECONDS = 0.2
NOTICE_SECONDS, NODELESS_SECONDS = 30.0, 900.0
"""How long no node works before a line says so, and before the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsRun:
    """The shards of one directory, and the job that the nodes get."""

    job: NodeJob
    finished: FinishedShards
    lost_last: bool
    """See `ShardBoard`."""
    restart: bool


class RayDriver:
    """Runs the shards that are not done on the nodes of a cluster. `received` are the signals so far: the first has each node
    finish its batches, a second ends all at once. `terminated` says whether the first leaves `grace` seconds only."""

    def __init__(
        self,
        ray: Any,
        run: ShardsRun,
        watch: NodeWatch,
        received: Sequence[int],
        terminated: Callable[[], bool],
    ) -> None:
        self._run, self._watch = run, watch
        self._received, self._terminated = received, terminated
        count = run.job.record.shards
        shards = range(count)
        done = {} if run.restart else run.finished.among(shards)
        self._left = [one for one in shards if one not in done]
        self._board = ShardBoard(count, self._left, lost_last=run.lost_last)
        self._endings = ShardEndings(run.job.out)
        self._figures = ShardFigures(count, done, time.monotonic())
        self._slots, self._view = NodeSlots(ray, watch.needs, run.job), ShardsView()
        self._error: EmbedfleetError | None = None
        self._ending_since: float | None = None
        self._look_at = 0.0
        self._worked_at, self._noticed = time.monotonic(), False
        self._is_requesting = True

    def run(self) -> None:
        """Run the shards to their end, and wait until their manifests are seen here.

        Raises Interrupted after a signal, UsageError if one of them cannot be run at all, and RunFailed if some have failed
        again and again.
        """
        if self._board.done:
            messages().say(f"{self._board.done:,} of {pluralize(self._board.count, 'shard')} done before")
        try:
            while not (self._board.is_over or (self._ending_since is not None and not self._slots.busy)):
                self._step()
                self._show()
            self._slots.finish(max(0.0, min(self._drain_left(), FINISH_SECONDS)))
        finally:
            self._view.close()
            self._slots.close()
            self._watch.close()
        if self._received:
            raise Interrupted
        if self._error is not None:
            raise self._error
        if failed := self._board.failed:
            raise RunFailed(failures(failed, self._board.count))
        self._run.finished.await_all(self._left, time.monotonic() + SHARED_SECONDS)

    def _step(self) -> None:
        now = time.monotonic()
        self._end_if_asked(now)
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        if self._ending_since is None:
            self._hand_out(now)
            self._check_nodes_left(now)
        for event in self._slots.events(STEP_SECONDS):
            self._handle(event, time.monotonic())

    def _end_if_asked(self, now: float) -> None:
        if (self._received or self._error is not None) and self._ending_since is None:
            self._ending_since = now
            self._slots.stop(terminate=self._terminated())
            if self._slots.busy:
                messages().say(
                    f"finishing what is in flight on {pluralize(self._slots.busy, 'node')}; once more to stop at once"
                )
        if self._ending_since is None:
            return
        if len(self._received) > 1 or self._drain_left() < 0:
            self._slots.close()  # what the nodes have committed stays

    def _drain_left(self) -> float:
        """Seconds until the nodes must have ended; infinite while there is no limit, as after Ctrl-C."""
        if self._ending_since is None or not (self._terminated() or self._error is not None):
            return math.inf
        return self._ending_since + self._run.job.grace - time.monotonic()

    def _look(self) -> None:
        """Look at the nodes: give each new one an actor, and ask for more nodes while shards wait."""
        nodes = self._watch.look()
        self._slots.drop_others(node.id for node in nodes)
        if self._ending_since is not None:
            return
        self._slots.cover(nodes)
        if nodes and self._is_requesting:
            shares = [node.share(gpus=self._watch.needs.gpus) for node in nodes]
            more = self._board.waiting - len(self._slots.idle()) - self._slots.coming
            self._slots.request_nodes(max(shares, key=lambda share: sum(share.values())), max(0, more))

    def _hand_out(self, now: float) -> None:
        """Give each idle node a shard, and another one ahead as long as more wait than there are nodes: at the end no shard
        waits behind another one while a node is idle."""
        for node in self._slots.idle():
            if not self._hand(node, now):
                return
        for node in self._slots.with_one():
            if self._board.waiting <= self._slots.up + self._slots.coming or not self._hand(node, now):
                return

    def _hand(self, node: str, now: float) -> bool:
        """Give a node a shard, if one may be handed out now."""
        shard = self._board.take(node, now)
        if shard is None:
            return False
        self._slots.hand(node, shard, restart=self._run.restart and self._board.is_first(shard))
        messages().detail(f"shard {shard}/{self._board.count} on {self._watch.name(node)}")
        return True

    def _check_nodes_left(self, now: float) -> None:
        """Report it if no node works, and end the run after NODELESS_SECONDS."""
        if self._slots.up:
            self._worked_at, self._noticed = now, False
            return
        if not self._noticed and now - self._worked_at > NOTICE_SECONDS:
            self._noticed = True
            what = (
                f"their devices are free on {pluralize(self._slots.coming, 'node')}"
                if self._slots.coming
                else "a node joins"
            )
            messages().say(f"no node works now; waiting until {what}")
        if not self._slots.coming and now - self._worked_at > NODELESS_SECONDS:
            self._error = RunFailed(
                f"no node of the cluster could be used for {NODELESS_SECONDS / 60:.0f} minutes. What was committed stays; "
                "the same command resumes"
            )

    def _handle(self, event: SlotEvent, now: float) -> None:
        match event:
            case Up(node):
                messages().detail(f"node {self._watch.name(node)} is ready")
            case GroupPlaced(node):
                self._is_requesting = not self._watch.is_bad(node)
            case Lost(node, shards, reason):
                self._lost(node, shards, reason, now)
            case Reported(node, report):
                self._reported(node, report, now)

    def _lost(self, node: str, shards: Sequence[int], reason: str, now: float) -> None:
        messages().detail(f"node {self._watch.name(node)}: {reason}")
        if not node:  # a waiting placement group got room on a node where no actor can be made
            self._is_requesting = False
        for shard in reversed(shards[1:]):  # it was not begun
            self._board.put_back(shard)
        if not shards:
            return
        shard = shards[0]
        is_old = self._run.restart and self._board.is_first(shard)  # its folder holds the earlier run, not yet removed
        if not is_old and (rows := self._rows(shard)) is not None:
            messages().say(f"node {self._watch.name(node)} was lost; shard {shard} is done")
            self._finish(shard, rows)
            return
        again = self._board.lose(shard, f"its node {self._watch.name(node)} was lost: {reason}", now)
        messages().say(
            f"node {self._watch.name(node)} was lost; shard {shard} " + ("goes to another" if again else "is given up")
        )

    def _reported(self, node: str, report: ShardReport, now: float) -> None:
        shard = report.shard
        if report.progress is not None:
            self._figures.progress(shard, report.progress)
            if any(one["rows_done"] for one in report.progress.get("passes", ())):
                self._board.begin(shard)
        for line in report.messages:
            messages().detail(f"shard {shard} on {self._watch.name(node)}: {line}")
        if report.code is not None:
            self._ended(node, shard, report.code, report.error, now)
        elif report.is_back:
            self._board.put_back(shard)

    def _ended(self, node: str, shard: int, code: int, error: str, now: float) -> None:
        where = f"shard {shard}/{self._board.count} on {self._watch.name(node)}"
        reason = error or f"the command ended with {describe_exit(code)}"
        match self._endings.judge(node, shard, code, error):
            case "done":
                self._finish(shard, self._rows(shard) or 0)
            case "writing" | "away":
                messages().detail(f"{where}: {reason}")
                self._board.wait(shard, f"{where}: {reason}", now)
            case "lost":
                self._board.lose(shard, f"{where}: {reason}", now)
            case "general":
                self._error = self._error or UsageError(f"{where}: {reason}")
                self._board.lose(shard, reason, now)
            case "failed":
                again = self._board.fail(shard, f"{where}: {reason}", now)
                messages().say(
                    f"{where}: {reason}; " + ("it is tried again" if again else "it is given up, and the others go on")
                )

    def _finish(self, shard: int, rows: int) -> None:
        self._board.finish(shard)
        self._figures.finish(shard, rows)

    def _show(self) -> None:
        board = self._board
        self._view.show(
            self._figures.snapshot(
                time.monotonic(),
                running=board.running,
                left=board.left,
                failed=len(board.failed),
                nodes=self._slots.up,
            )
        )

    def _rows(self, shard: int) -> int | None:
        """The rows of a shard that is done; None if that is not seen here."""
        try:
            return self._run.finished.among([shard]).get(shard)
        except EmbedfleetError:
            return None
