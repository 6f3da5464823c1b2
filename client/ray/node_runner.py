"""NodeRunner: the actor on a node. It runs `embedfleet run` on one shard after another, in a child process."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ...protocol.process.child import ChildProcess

READ_BYTES = 1 << 16
MOST_LINE = 1 << 20
"""The longest line that may be a message of embedfleet, in bytes."""
OURS = ("EMBEDFLEET_DEVICES", "EMBEDFLEET_OTLP")
"""Variables of a node that would change the flags of a shard, as do all that begin with PREFIX."""
PREFIX = "EMBEDFLEET_RUN_"


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What has happened since the last report."""

    shard: int | None
    """The shard that is being run, or has just ended; None if there is none."""
    progress: dict[str, Any] | None = None
    """The newest figures, as `--progress json` has them."""
    messages: tuple[str, ...] = ()
    error: str = ""
    """The error by which the command ended."""
    code: int | None = None
    """Its exit status, negative for a signal; None while it runs."""


@dataclass(slots=True)
class _Running:
    shard: int
    process: ChildProcess
    reader: int
    config: Path
    unread: bytearray = field(default_factory=bytearray)
    error: str = ""


class NodeRunner:
    """Runs shards on its node. Ray makes the calls one after another, and none of them waits.

    The child process sees the devices that Ray lends this actor. It ends with the actor's process.
    """

    def __init__(self) -> None:
        self._running: _Running | None = None

    def node(self) -> str:
        """The id of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def start(self, shard: int, count: int, config: str, restart: bool) -> None:
        """Begin a shard, with the flags of a run as TOML."""
        self._end()
        handle, name = tempfile.mkstemp(prefix="embedfleet-", suffix=".toml")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(config)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        arguments = ["run", "--config", name, "--shard", f"{shard}/{count}", "--progress", "json"]
        cleared = {variable: "" for variable in os.environ if variable.startswith(PREFIX) or variable in OURS}
        try:
            process = ChildProcess(
                "embedfleet", [*arguments, *(["--restart"] if restart else [])], environment=cleared, stderr=writer
            )
        finally:
            os.close(writer)
        self._running = _Running(shard, process, reader, Path(name))

    def poll(self) -> ShardReport:
        """What has happened to the shard since the last call."""
        one = self._running
        if one is None:
            return ShardReport(None)
        code = one.process.exit_code()  # before the read, so that the last lines are not missed
        progress, messages = None, list[str]()
        for line in self._lines(one):
            with contextlib.suppress(ValueError, TypeError, AttributeError):  # a library's own words
                fields: Any = orjson.loads(line)
                progress = fields.get("progress") or progress
                one.error = fields.get("error") or one.error
                messages += [fields["message"]] if "message" in fields else []
        if code is not None:
            self._end()
        return ShardReport(one.shard, progress, tuple(messages), one.error, code)

    def stop(self, *, terminate: bool) -> None:
        """End the shard: finish the batches in flight as after Ctrl-C, or within `--grace` (`terminate`)."""
        if self._running is None:
            return
        if terminate:
            self._running.process.terminate()
        else:
            self._running.process.interrupt()

    def _lines(self, one: _Running) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            while block := os.read(one.reader, READ_BYTES):
                one.unread += block
        *lines, rest = bytes(one.unread).split(b"\n")
        one.unread = bytearray(rest[-MOST_LINE:])
        return lines

    def _end(self) -> None:
        if self._running is not None:
            self._running.process.close()
            os.close(self._running.reader)
            self._running.config.unlink(missing_ok=True)
            self._running = None
