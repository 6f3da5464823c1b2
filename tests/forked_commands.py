"""`embedfleet` commands, each in a fork of a process that has imported what they need: `python forked_commands.py FD`.

A command in a fork is a process as any other: it has its own streams, folder and environment, ends with its own exit code,
and has the same processes below it, which are forks too (`forked_children.py`). What they do without is to start Python and
import the packages, which takes longer than all that most commands do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .forked_children import MESSAGE_BYTES, STARTERS, Task, adopt_orphans, fork, keep_a_twin, take_over

SERVER = "embedfleet.tests.forked_commands"
PROGRAMS = (
    "embedfleet.worker.models.check", "embedfleet.worker.hub.pull", "embedfleet.worker.hub.reach",
    "embedfleet.worker.query", "embedfleet.coordinator.runs.bm25_count",
    "embedfleet.exporter.commands.candidates", "embedfleet.exporter.commands.export", "embedfleet.exporter.commands.rank",
    "embedfleet.exporter.commands.merge",
)  # fmt: skip
"""Modules that are run as processes; the others are packages with a `__main__`."""
SEEN = (
    "embedfleet.client.cli.app", "embedfleet.client.steps.export", "embedfleet.client.run_directory.info",
    "embedfleet.client.steps.retrieval", "embedfleet.client.cli.run.run_command", "embedfleet.client.cli.search.search_command",
    "embedfleet.client.cli.tables", "embedfleet.client.verify.recount", "embedfleet.coordinator.loop",
    "embedfleet.coordinator.hosts.discovery", "embedfleet.coordinator.telemetry.otlp", "embedfleet.exporter.entry",
    "embedfleet.worker.entry", "embedfleet.worker.encoders.fake", "embedfleet.client.options.retrieval_options",
    "embedfleet.client.options.stdin_check", "embedfleet.client.steps.derived.derived_run",
    "embedfleet.client.verify.shard_checks", "embedfleet.client.search.exact_metadata",
    "embedfleet.client.search.filter_keys", "embedfleet.client.search.pair_scores",
    "embedfleet.client.search.query_encoder", "embedfleet.client.options.spec_builder", "qdrant_edge",
    "embedfleet.client.doctor.diagnosis", "embedfleet.client.doctor.page",
    "typer._adapters", "pydantic.types", "pydantic.main", "pydantic.plugin._loader", "rich.emoji", "rich.console",
    "rich.markup", "rich.table",
)  # fmt: skip
"""What commands and their processes import when they run."""


class ForkedCommands:
    """The other side: starts the server when it is first asked for a command. One command at a time."""

    def __init__(self) -> None:
        self._link: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = dict(os.environ)  # not that of the test which asks first

    def call(self, args: Sequence[str], streams: Sequence[int], cwd: Path | None, seconds: float) -> int:
        """Run `embedfleet ARGS` with these three descriptors as its standard streams; its exit code."""
        asked = {"args": list(args), "cwd": os.fspath(cwd or Path.cwd()), "environment": dict(os.environ)}
        link, pid = self._link or self._start(), 0
        link.settimeout(seconds)
        try:
            socket.send_fds(link, [json.dumps(asked).encode()], list(streams))
            pid = int(link.recv(MESSAGE_BYTES))
            return int(link.recv(MESSAGE_BYTES))
        except BaseException:  # a test's time may be up at any moment
            if pid:
                os.kill(pid, signal.SIGKILL)
            self.close()
            raise

    def _start(self) -> socket.socket:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", SERVER, str(theirs.fileno())]
        self._server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True, env=self._environment
        )
        theirs.close()
        return self._link

    def close(self) -> None:
        """End the server; the next call starts another one."""
        if self._link is not None and self._server is not None:
            self._link.close()
            self._server.kill()
            self._server.wait()
        self._link = self._server = None


def serve(link: socket.socket) -> Task:
    """Answer until the other side is gone. In a fork it returns at once: what that is to become."""
    while True:
        asked, streams, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 3)
        if not asked:
            sys.exit(0)
        pid = fork()
        if pid == 0:
            fields = json.loads(asked)
            return Task("embedfleet", fields["args"], fields["environment"], fields["cwd"], dict(enumerate(streams)))
        for one in streams:
            os.close(one)
        link.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        link.send(str(os.waitstatus_to_exitcode(status)).encode())
        reap()


def reap() -> None:
    """Take leave of what is orphaned below this process and has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def pythons(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which Python starts as it does: where they are others than here, children are started by it."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


HERE = pythons(os.environ)


def main() -> None:
    for name in SEEN:
        with contextlib.suppress(ImportError):  # of what is not installed
            importlib.import_module(name)
    for name in PROGRAMS:
        importlib.import_module(name)
        del sys.modules[name]  # each is run as `__main__`
    gc.freeze()  # what is here stays shared with the forks
    adopt_orphans()
    task = serve(socket.socket(fileno=int(sys.argv[1])))
    take_over(task)
    while task.module in STARTERS and pythons(task.environment) == HERE and (another := keep_a_twin()) is not None:
        task = another
        take_over(task)
    sys.argv = [str(Path(sys.executable).with_name("embedfleet")), *task.args]
    runpy.run_module(task.module, run_name="__main__", alter_sys=task.module != "embedfleet")


if __name__ == "__main__":
    main()
