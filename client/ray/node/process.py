"""`python -m embedfleet.client.ray.node.process --job-fd N`: embed the shards that are handed to it, by one coordinator.

Descriptor N holds a `NodeJob` as JSON. Each line on standard input is a `ShardOrder`; a shard that comes while another one is
embedded is queued behind it, so that workers keep their models. What happens is written to standard error as JSON lines, see
`ShardLines`. The process ends after the last shard, once its standard input has ended; a signal drains as it does a run.

Exit code 0: all shards that were begun have ended, and those that were not may be handed to another process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import deque
from dataclasses import dataclass

import msgspec

from ....protocol.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_QUARANTINED, EmbedfleetError
from ....protocol.process import lifeline
from ....protocol.process.standard_streams import guard_standard_error
from ....protocol.process.system_refusals import describe_system_error
from ....protocol.wire.control import RunEnded
from ...output.exit_code import exit_code_of
from ...output.messages import OutputSettings, configure
from ...output.progress import ProgressView, make_view
from ...steps.complete_run import completed
from ...steps.runs_in_turn import PlannedRun, RunsInTurn
from ...steps.session import Interrupted, Session, open_session
from .job import NodeJob, ShardOrder
from .orders import Orders
from .shard_folder import ShardFolder
from .shard_lines import ShardLines

WAIT_SECONDS, OPENING_SECONDS = 0.2, 0.05
"""The time between two looks for a signal, and for a folder that is being opened."""


@dataclass(frozen=True, slots=True)
class _Shard:
    order: ShardOrder
    lines: ShardLines
    folder: ShardFolder


class NodeShards:
    """The shards of a process. Close it once the session has ended: only then nothing writes to their folders."""

    def __init__(self, job: NodeJob, orders: Orders) -> None:
        self._job, self._orders = job, orders
        self._session: Session | None = None
        self._opening: _Shard | None = None
        self._queued = deque[_Shard]()
        """The shards that the coordinator has; the first is watched."""
        self._ended = 0
        self._is_leaving = False

    def view(self, unit: str) -> ProgressView:
        """The view of the run that is watched next."""
        return self._queued[0].lines.view(unit) if self._queued else make_view(unit)

    def run(self, session: Session) -> int:
        """Run the shards to the last one, or until a signal or the end of the coordinator. Return the exit code."""
        self._session = session
        while not session.received and session.has_coordinator:
            try:
                for ending in RunsInTurn(session, self._upcoming).endings():
                    self._conclude(self._queued.popleft(), ending)
            except EmbedfleetError as error:  # the coordinator is gone
                self._conclude(self._queued.popleft(), error)
                break
            if self._opening is not None:
                time.sleep(OPENING_SECONDS)
            elif self._orders.is_ended:
                return EXIT_DONE
            else:
                self._orders.wait(WAIT_SECONDS)
        return EXIT_DONE if self._ended or not session.received else session.exit_code

    def close(self) -> None:
        """Close the folders of shards that were not begun."""
        self._is_leaving = True
        for shard in (*self._queued, *filter(None, [self._opening])):
            with contextlib.suppress(EmbedfleetError, Interrupted):  # of a store: the next process there sees to it
                shard.folder.close()

    def _upcoming(self) -> PlannedRun | None:
        """The next run, if its folder is open."""
        if self._opening is None and (order := self._orders.take()) is not None:
            lines = ShardLines(order.shard)
            self._opening = _Shard(order, lines, ShardFolder(self._job, order.shard, lines.say, self._check))
        if (shard := self._opening) is None or not shard.folder.is_ready:
            return None
        self._opening = None
        try:
            planned = PlannedRun(self._job.shard_spec(shard.order.shard), shard.folder.path(), shard.order.restart)
        except Exception as error:  # noqa: BLE001 - described, or raised again
            self._end(shard, *self._described(error))
            return None
        self._queued.append(shard)
        return planned

    def _conclude(self, shard: _Shard, ending: RunEnded | EmbedfleetError | None) -> None:
        """Say how the run of a shard has ended."""
        try:
            done = completed(ending)
        except (EmbedfleetError, Interrupted) as error:
            self._end(shard, *self._described(error))
            return
        shard.lines.say(
            f"{done.chunks:,} read = {done.committed:,} committed + {done.quarantined:,} quarantined; {done.seconds:,.1f} s"
        )
        self._end(shard, EXIT_QUARANTINED if done.quarantined else EXIT_DONE, "")

    def _end(self, shard: _Shard, code: int, error: str) -> None:
        """Close the folder of a shard, and only then report its end: in object storage it is whole then."""
        try:
            shard.folder.close()
        except Exception as failure:  # noqa: BLE001 - described, or raised again
            described = self._described(failure)
            code, error = described if code in (EXIT_DONE, EXIT_QUARANTINED) else (code, error)
        self._ended += 1
        shard.lines.end(code, error)

    def _described(self, error: Exception) -> tuple[int, str]:
        """The exit code and the message of a command that ends with this error. Raises it if it is not an expected one."""
        if isinstance(error, Interrupted):
            return (self._session.exit_code if self._session is not None else EXIT_INTERRUPTED), ""
        if isinstance(error, EmbedfleetError):
            return error.exit_code, str(error)
        if (refused := describe_system_error(error)) is None:
            raise error
        return EXIT_FAILED, refused

    def _check(self) -> None:
        """Raise Interrupted if folders need not be opened any more."""
        if self._is_leaving or (self._session is not None and self._session.received):
            raise Interrupted


def run_shards(job: NodeJob, orders: Orders) -> int:
    """Run the shards that are ordered, and return the exit code."""
    shards = NodeShards(job, orders)
    try:
        with open_session(
            devices=job.devices,
            otlp=job.otlp,
            share_stdin=False,
            views=shards.view,
            options=job.options,
            grace=job.grace,
        ) as session:
            return shards.run(session)
    finally:
        shards.close()


def main() -> int:
    """Entry point: an error that no shard is to blame for is a line without a shard, and an exit code."""
    lifeline.hold()
    guard_standard_error()
    parser = argparse.ArgumentParser(prog="python -m embedfleet.client.ray.node.process")
    parser.add_argument("--job-fd", type=int, required=True)
    configure(OutputSettings(progress="json"))
    with os.fdopen(parser.parse_args().job_fd, "rb") as file:
        job = msgspec.json.decode(file.read(), type=NodeJob)
    return exit_code_of(lambda: run_shards(job, Orders(sys.stdin.fileno())))


if __name__ == "__main__":
    sys.exit(main())
