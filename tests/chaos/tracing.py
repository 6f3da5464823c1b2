"""Modules run under strace as forks: nothing is imported for each, so that a process can be killed at any of its calls."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence

from embedfleet.tests.forked_commands import ForkedCommands, Task

HELD = "embedfleet.tests.chaos.held"
SECONDS = 60.0
"""For one of them."""


def run_traced(forked: ForkedCommands, module: str, args: Sequence[str], *options: str) -> tuple[int, list[str]]:
    """Run `python -m MODULE ARGS` under `strace OPTIONS`: its exit code, and the words that it output."""
    reader, writer = os.pipe()
    with (
        open(reader, "rb") as orders,
        open(writer, "wb") as order,
        open(os.devnull, "wb") as nothing,
        tempfile.TemporaryFile() as out,
    ):
        streams = {0: orders.fileno(), 1: out.fileno(), 2: nothing.fileno()}
        process = forked.fork(Task(HELD, [module, *args], dict(os.environ), os.getcwd(), streams))
        with subprocess.Popen(["strace", "-f", "-p", str(process.pid), *options], stderr=subprocess.PIPE) as tracer:
            try:
                assert tracer.stderr is not None
                first = tracer.stderr.readline()
                assert b"attached" in first, first  # from here on, it makes no call unseen
                order.write(b"begin\n")
                order.flush()
                tracer.wait(SECONDS)  # of a process that has ended, it hears first
                code = process.wait(SECONDS)
            finally:
                process.kill()  # the tracer, which is waited for, ends with it
        out.seek(0)
        return code, out.read().decode().split()
