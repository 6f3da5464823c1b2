"""`embedfleet` commands, each in a fork of a process that has imported what they need: `python forked_commands.py FD`.

A command in a fork is a process as any other: it has its own streams, folder and environment, ends with its own exit code,
and starts the same processes below it. What it does without is to start Python and import the packages, which takes longer
than many a command does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SEEN = (
    "client.steps.export", "client.run_directory.info", "client.steps.retrieval", "client.cli.run_command",
    "client.cli.search_command", "client.cli.tables", "client.verify.recount",
)  # fmt: skip
"""What the commands import when they run, where it is there."""
MESSAGE_BYTES = 1 << 20


class ForkedCommands:
    """The other side: starts the server when it is first asked for a command. One command at a time."""

    def __init__(self) -> None:
        self._link: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

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
        command = [sys.executable, "-P", __file__, str(theirs.fileno())]
        self._server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
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


def serve(link: socket.socket) -> None:
    """Answer until the other side is gone. In a fork it returns as soon as that is ready to be the command."""
    while True:
        asked, streams, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 3)
        if not asked:
            sys.exit(0)
        pid = fork()
        if pid == 0:
            link.close()
            become(json.loads(asked), streams)
            return
        for one in streams:
            os.close(one)
        link.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        link.send(str(os.waitstatus_to_exitcode(status)).encode())


def fork() -> int:
    """os.fork() of a process whose other threads, of its libraries, do nothing yet: newer Pythons warn of any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become(asked: dict[str, Any], streams: Sequence[int]) -> None:
    """Take over what a process gets from the one that starts it."""
    for place, one in enumerate(streams):
        os.dup2(one, place)
        os.close(one)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    sys.argv = [str(Path(sys.executable).with_name("embedfleet")), *asked["args"]]


def main() -> None:
    from embedfleet.client.cli.app import main as command

    for name in SEEN:
        importlib.import_module(f"embedfleet.{name}")
    with contextlib.suppress(ImportError):
        importlib.import_module("qdrant_edge")
    gc.freeze()  # what is here stays shared with the forks
    serve(socket.socket(fileno=int(sys.argv[1])))
    command()


if __name__ == "__main__":
    main()
