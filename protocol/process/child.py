"""A child process of this package: started, watched, ended, reaped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from ..errors import EXIT_USAGE, EmbedfleetError, UsageError
from . import lifeline

TAIL_BYTES = 4_000
REAP_SECONDS = 10.0
"""After SIGKILL."""

ERROR_MARK = "embedfleet: error: "
"""What a process of this package writes before the error that ends it, at the beginning of a line."""

STEADY_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_ARENA_MAX": "2"}
"""For processes that handle large, short-lived buffers: glibc then returns them to the system at once, so that resident
memory says what is used. Not for workers: there the same pages are wanted again by the next micro-batch."""


class ChildProcess:
    """A handle on one child running `python -m MODULE ARGS`.

    `-P`: what lies in the user's folder is not to be imported. The child has its own session, so a terminal's Ctrl-C
    reaches only the command line, which then ends the others in order. `stdout` takes what it writes there; without it that
    goes where its errors go. Start from the main thread: the parent-death
    signal follows the thread that forked. `pidfd` becomes readable when the child ends (None where the system has no
    pidfd).
    """

    def __init__(
        self,
        module: str,
        args: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: IO[bytes] | None = None,
        keep_fds: Sequence[int] = (),
        quiet: bool = True,
    ) -> None:
        self._errors = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - closed in close()
        reader, self._writer = os.pipe()
        ours = STEADY_MEMORY.items()  # a parent's setting is not its children's
        variables = {name: value for name, value in os.environ.items() if (name, value) not in ours}
        variables |= environment or {}
        variables[lifeline.PIPE_VARIABLE] = str(reader)
        variables[lifeline.PARENT_VARIABLE] = str(os.getpid())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *args],
                env=variables,
                stdin=stdin,
                stdout=stdout or (self._errors if quiet else sys.stderr),
                stderr=self._errors if quiet else None,
                pass_fds=(reader, *keep_fds),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._writer)
            raise
        finally:
            os.close(reader)
        self.pid = self._process.pid
        self.pidfd: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # an old system, a container that does not allow it
            self.pidfd = os.pidfd_open(self.pid)

    def exit_code(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Ask it to end as Ctrl-C does (SIGINT)."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it now (SIGKILL), and what it may have forked: it would hold the locks that it inherited."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> int | None:
        """Exit status once it has ended; None if it still runs after `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def peak_bytes(self) -> int:
        """The most resident memory that it had so far, by the kernel's count; 0 once it has ended."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as lines:
                found = next((line for line in lines if line.startswith(b"VmHWM:")), b"VmHWM: 0 kB")
        except OSError:
            return 0
        return int(found.split()[1]) * 1024

    def tail(self) -> str:
        """The end of what it wrote, for a message."""
        if self._errors is None:
            return ""
        # At a place of our own: the child writes where this file stands, which a seek would move for it too.
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace").strip()

    def close(self) -> None:
        """Kill it if it still runs, reap it, and free what the handle holds. Safe to call again.

        A process that hangs in a driver or on a dead disk may not end for all that; it is left to itself.
        """
        if self._process.poll() is None:
            self.kill()
            self.wait(REAP_SECONDS)
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


def exit_error(code: int, tail: str, otherwise: str) -> EmbedfleetError:
    """The error of a process that ended with `code`: in its own words, or else in those of `otherwise`."""
    message = error_text(tail) or otherwise
    return UsageError(message) if code == EXIT_USAGE else EmbedfleetError(message)


def error_text(tail: str) -> str:
    """The error that ended a process, out of the end of what it wrote; all of that where no error is marked."""
    return f"\n{tail}".rpartition(f"\n{ERROR_MARK}")[2].strip()
