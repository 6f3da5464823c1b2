"""`embedfleet` commands, each in a fork of a process that has imported what they need: `python forked_commands.py FD`.

A command in a fork is a process as any other: it has its own streams, folder and environment, ends with its own exit code,
and has the same processes below it, which are forks too (`forked_children.py`). What they do without is to start Python and
import the packages, which takes longer than all that most commands do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from embedfleet.protocol.process import child as child_module

from .forked_children import STARTERS, Forked, Forking, Task, adopt_orphans, be_the_twin, keep_a_twin, take_over

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
    "rich.markup", "rich.table", "numpy.ma", "dateutil.relativedelta", "typer._click.decorators",
    "embedfleet.client.options.run_defaults", "embedfleet.client.options.shard_flags", "embedfleet.client.steps.remote_out",
    "embedfleet.client.output.progress_lines", "embedfleet.worker.device.fair_share",
)  # fmt: skip
"""What commands and their processes import when they run."""
MODELS = ("torch", "sentence_transformers", "embedfleet.worker.models.loading")
"""What workers import for a model that torch computes."""
ROOM = " " * 8_192
"""An argument of the server, so that there is room for the arguments of the forks."""


class ForkedCommands:
    """Starts such processes, as children of this one. With `models`, they have imported what loads models, too: it takes
    seconds. One is started at a time."""

    def __init__(self, *, models: bool = False) -> None:
        self._link: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._forking: Forking | None = None
        self._models = models
        self._environment = dict(os.environ)  # not that of the test which asks first

    def start(self, args: Sequence[str], streams: Sequence[int], cwd: Path | None = None) -> Forked:
        """Start `embedfleet ARGS` with these three descriptors as its standard streams, in a session of its own."""
        folder = os.fspath(cwd or Path.cwd())
        return self.fork(Task("embedfleet", list(args), dict(os.environ), folder, dict(enumerate(streams))))

    def fork(self, task: Task) -> Forked:
        """Start what the task says."""
        forking = self._forking or self._start()
        try:
            return forking.fork(task)
        except BaseException:  # a test's time may be up at any moment
            self.close()
            raise

    @contextlib.contextmanager
    def children(self) -> Generator[None]:
        """Meanwhile, each `ChildProcess` that this process starts is a fork."""
        before, child_module.subprocess = child_module.subprocess, self._forking or self._start()  # type: ignore[assignment]
        try:
            yield
        finally:
            child_module.subprocess = before

    def call(self, args: Sequence[str], streams: Sequence[int], cwd: Path | None, seconds: float) -> int:
        """Run `embedfleet ARGS` to its end; its exit code."""
        command = self.start(args, streams, cwd)
        try:
            return command.wait(seconds)
        except BaseException:
            command.kill()
            command.wait()
            raise

    def _start(self) -> Forking:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", SERVER, str(theirs.fileno()), *(["models"] if self._models else [])]
        self._server = subprocess.Popen(
            [*command, ROOM],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=self._environment,
        )
        theirs.close()
        self._forking = _Adopting(self._link)
        return self._forking

    def close(self) -> None:
        """End the server; the next call starts another one."""
        if self._link is not None and self._server is not None:
            self._link.close()
            self._server.kill()
            self._server.wait()
        self._link = self._server = self._forking = None


class _Adopting(Forking):
    """Adopts a child when it is forked, and nothing else: what a test kills leaves its children to the system."""

    def fork(self, task: Task) -> Forked:
        adopt_orphans()
        try:
            return super().fork(task)
        finally:
            adopt_orphans(yes=False)


def pythons(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables by which Python starts as it does: where they are others than here, children are started by it."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


HERE = pythons(os.environ)


def main() -> None:
    for name in [*SEEN, *(MODELS if "models" in sys.argv else ())]:
        with contextlib.suppress(ImportError):  # of what is not installed
            importlib.import_module(name)
    for name in PROGRAMS:
        importlib.import_module(name)
        del sys.modules[name]  # each is run as `__main__`
    gc.freeze()  # what is here stays shared with the forks
    task = be_the_twin(socket.socket(fileno=int(sys.argv[1])))
    take_over(task)
    while task.module in STARTERS and pythons(task.environment) == HERE and (another := keep_a_twin()) is not None:
        task = another
        take_over(task)
    sys.argv = [str(Path(sys.executable).with_name("embedfleet")), *task.args]
    runpy.run_module(task.module, run_name="__main__", alter_sys=task.module != "embedfleet")


if __name__ == "__main__":
    main()
