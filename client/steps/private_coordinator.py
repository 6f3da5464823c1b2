"""PrivateCoordinator: the coordinator of one command, on a socket in a temporary folder."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from ...protocol.errors import EmbedfleetError, describe_exit, error_from_name
from ...protocol.process.child import STEADY_MEMORY, ChildProcess
from ...protocol.process.socket_folder import PREFIX, sweep
from ...protocol.wire.channels import IPC_PATH_LIMIT

START_SECONDS = 60.0
STOP_SECONDS = 15.0
KILL_SECONDS = 5.0
PREFIX_OF_LINES = "embedfleet: "
"""The beginning of the coordinator's lines for people."""


class PrivateCoordinator:
    """A child coordinator on ipc. Enter to start it and wait until it listens; leave to end it and all its children."""

    def __init__(self, devices: str | None, *, otlp: str | None = None, share_stdin: bool) -> None:
        parent = short_folder()
        sweep(parent)
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent)
        self.address = f"ipc://{self._folder.name}"
        self._devices, self._otlp, self._share_stdin = devices, otlp, share_stdin
        self._process: ChildProcess | None = None
        self.last_words: list[str] = []
        """Its lines for people, once it has ended."""

    def __enter__(self) -> PrivateCoordinator:
        ready, write = os.pipe()
        arguments = [f"--bind={self.address}", f"--ready-fd={write}"]
        if self._devices is not None:
            arguments.append(f"--devices={self._devices}")
        if self._otlp is not None:
            arguments.append(f"--otlp={self._otlp}")
        stdin = None if self._share_stdin else subprocess.DEVNULL
        try:
            self._process = ChildProcess(
                "embedfleet.coordinator", arguments, environment=STEADY_MEMORY, stdin=stdin, keep_fds=[write]
            )
            os.close(write)
            self._await(ready)
        except BaseException:
            self._end(0)
            raise
        finally:
            os.close(ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        in_order = kind is None or issubclass(kind, EmbedfleetError)  # a failed run still has spans to send
        self._end(STOP_SECONDS if in_order else 0)

    def exit_code(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.exit_code() if self._process is not None else None

    def kill(self) -> None:
        """End it now and wait until it is gone; its children end with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(KILL_SECONDS)

    def tail(self) -> str:
        """The end of what it wrote on standard error."""
        return self._process.tail() if self._process is not None else ""

    def _await(self, ready: int) -> None:
        assert self._process is not None, "started"
        readable, _, _ = select.select([ready], [], [], START_SECONDS)
        if readable and os.read(ready, 16) == b"ready":
            return
        code = self._process.wait(5)
        text = self.tail().removeprefix(PREFIX_OF_LINES)
        if code == 2:
            raise error_from_name("UsageError", text)
        raise EmbedfleetError(f"the coordinator did not start ({describe_exit(code)}): {text or 'it printed nothing'}")

    def _end(self, patience: float) -> None:
        if self._process is not None:
            if patience:
                self._process.terminate()
                self._process.wait(patience)
            lines = self.tail().splitlines()
            self.last_words = [line.removeprefix(PREFIX_OF_LINES) for line in lines if line.startswith(PREFIX_OF_LINES)]
            self._process.close()
        self._folder.cleanup()


def short_folder() -> Path:
    """The usual folder for temporary files, or /tmp if its path is too long for a socket."""
    usual = Path(tempfile.gettempdir())
    longest = len(os.fsencode(usual / f"{PREFIX}12345678" / "export-100"))
    return Path("/tmp") if longest > IPC_PATH_LIMIT else usual
