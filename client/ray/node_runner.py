"""NodeRunner: the actor on a node. It has a child process that embeds the shards of the node, one after another."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson

from ...protocol.process.child import ChildProcess
from .node.job import NodeJob, ShardOrder

READ_BYTES = 1 << 16
MOST_LINE = 1 << 20
"""The longest line that may be one of the child's, in bytes."""
FINISH_SECONDS = 20.0
"""How long the child may take to end once it has no more shards: it sends its last spans."""


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What has happened to a shard since the last report."""

    shard: int
    progress: dict[str, Any] | None = None
    """The newest figures, as `--progress json` has them."""
    messages: tuple[str, ...] = ()
    error: str = ""
    """The error by which it ended."""
    code: int | None = None
    """The exit status that a command for it would have, negative for a signal; None while it is not known."""
    is_back: bool = False
    """Whether the child has ended before it began the shard."""


@dataclass(slots=True)
class _News:
    """The child's lines on one shard since the last report."""

    progress: dict[str, Any] | None = None
    messages: list[str] = field(default_factory=list[str])
    error: str = ""
    code: int | None = None

    def add(self, fields: Any) -> None:
        """Take the fields of one line that the child wrote about the shard."""
        self.progress = fields.get("progress") or self.progress
        self.error = fields.get("error") or self.error
        self.code = fields.get("code", self.code)
        self.messages += [fields["message"]] if "message" in fields else []

    def report(self, shard: int, *, is_back: bool = False) -> ShardReport:
        return ShardReport(shard, self.progress, tuple(self.messages), self.error, self.code, is_back)


class NodeRunner:
    """Runs shards on its node. Ray makes the calls one after another, and none of them waits but `finish`.

    The child process sees the devices that Ray lends this actor. It ends with the actor's process. If it ends before, the next
    shard begins another one.
    """

    def __init__(self, job: NodeJob) -> None:
        self._job = msgspec.json.encode(job)
        self._child: _Child | None = None
        self._shards: list[int] = []
        """The shards of the node, in the order in which it got them. The child embeds the first, now or next."""
        self._loose = ""
        """The error by which the child ends, if no shard is to blame."""
        self._refused: dict[int, str] = {}
        """Shards for which no child could be started, each with the reason."""

    def node(self) -> str:
        """The id of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def hand(self, shard: int, restart: bool) -> None:
        """Have the child embed a shard, after those that it has."""
        self._shards.append(shard)
        try:
            if self._child is not None and len(self._shards) == 1 and self._child.process.exit_code() is not None:
                self._end()
            if self._child is None:
                self._child = _Child(self._job)
        except OSError as error:
            self._refused[shard] = f"no process can be started there ({error.strerror or error})"
            return
        self._child.write(msgspec.json.encode(ShardOrder(shard=shard, restart=restart)) + b"\n")

    def poll(self) -> tuple[ShardReport, ...]:
        """A report for each shard of the node. One that has ended, or is back, is forgotten."""
        news = {shard: _News() for shard in self._shards}
        ended = self._child.process.exit_code() if self._child is not None else None  # before the last lines are read
        self._take_lines(news)
        for shard, reason in self._refused.items():
            news[shard].error, news[shard].code = reason, 1
        self._refused.clear()
        left = [shard for shard in self._shards if news[shard].code is None]
        if ended:  # the first of the others was embedded when it died, or would have been
            for shard in left[:1]:
                news[shard].error, news[shard].code = self._loose or news[shard].error, ended
        back = [shard for shard in left if news[shard].code is None] if ended is not None else []
        reports = tuple(news[shard].report(shard, is_back=shard in back) for shard in self._shards)
        self._shards = [one.shard for one in reports if one.code is None and not one.is_back]
        if ended is not None:
            self._end()
        return reports

    def stop(self, *, terminate: bool) -> None:
        """End the shards: finish the batches in flight as after Ctrl-C, or within `--grace` (`terminate`)."""
        if self._child is None:
            return
        if terminate:
            self._child.process.terminate()
        else:
            self._child.process.interrupt()

    def finish(self) -> None:
        """End the child in order, once it has no more shards. Waits up to FINISH_SECONDS."""
        if self._child is not None:
            self._child.end_orders()
            self._child.process.wait(FINISH_SECONDS)
            self._end()

    def _take_lines(self, news: dict[int, _News]) -> None:
        """Sort the child's lines by shard. A line without a shard belongs to the first, except its error."""
        for line in self._child.lines() if self._child is not None else []:
            with contextlib.suppress(ValueError, TypeError, AttributeError):  # a line of a library
                fields: Any = orjson.loads(line)
                shard = fields.get("shard", next(iter(self._shards), None))
                if "shard" not in fields:
                    self._loose = fields.pop("error", self._loose)
                if shard in news:
                    news[shard].add(fields)

    def _end(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child, self._loose = None, ""


class _Child:
    """The child process, and the pipes to and from it."""

    def __init__(self, job: bytes) -> None:
        self._orders = self._reader = -1
        self._unread = b""
        theirs: list[int] = []
        try:
            orders, self._orders = os.pipe()
            theirs.append(orders)
            self._reader, writer = os.pipe()
            theirs.append(writer)
            about = os.memfd_create("job")
            theirs.append(about)
            os.set_blocking(self._reader, False)
            with os.fdopen(os.dup(about), "wb") as file:
                file.write(job)
            os.lseek(about, 0, os.SEEK_SET)
            self.process = ChildProcess(
                "embedfleet.client.ray.node.process",
                [f"--job-fd={about}"],
                stdin=orders,
                stderr=writer,
                keep_fds=[about],
            )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            for one in theirs:
                os.close(one)

    def write(self, line: bytes) -> None:
        """Write an order. A child that has ended does not read it, and `exit_code` says so."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, line)

    def end_orders(self) -> None:
        """Let it end after its last shard."""
        os.close(self._orders)
        self._orders = -1

    def lines(self) -> list[bytes]:
        """The lines that it has written since the last call."""
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self._reader, READ_BYTES):
                self._unread += block
        *lines, rest = self._unread.split(b"\n")
        self._unread = rest[-MOST_LINE:]
        return lines

    def close(self) -> None:
        """End it and all that it has started, if it still runs."""
        self.process.close()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for one in (self._orders, self._reader):
            if one >= 0:
                os.close(one)
        self._orders = self._reader = -1
