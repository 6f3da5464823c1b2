"""Start, watch, end and reap a child process of this package."""

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
"""How long to wait after SIGKILL."""

ERROR_MARK = "embedfleet: error: "
"""Begins the line in which a process of this package reports the error that ends it."""

STEADY_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_ARENA_MAX": "2"}
"""Environment of processes with large, short-lived buffers: glibc returns them to the system at once, so that resident
memory is what is in use. Not for workers, which reuse the same pages for the next micro-batch."""

SLEEPY_THREADS = {"OPENBLAS_THREAD_TIMEOUT": "4", "OMP_WAIT_POLICY": "passive"}
"""Environment of all processes. numpy's OpenBLAS starts its threads at import, and by default they spin for 2^26 cycles before
they sleep: 30 ms for each core, in each process. With this they sleep after 2^4. Threads of OpenMP, which torch uses, sleep at
once: where other processes use the cores, those that spin keep those that they wait for from running. The libraries read both
when they are loaded. A value that the user has set stays."""


class ChildProcess:
    """A handle on one child running `python -m MODULE ARGS`.

    `-P` keeps modules in the user's folder from being imported. The child has its own session, so a terminal's Ctrl-C
    reaches only the command line, which then ends the others in order. `stdout` is the child's standard output; by default
    it goes where standard error goes: to `stderr`, or where `tail` reads it (`quiet`), or where this process's goes. Start from
    the main thread: the parent-death signal follows the thread that forked. `pidfd` becomes readable when the child ends (None
    where the system has no pidfd).
    """

    def __init__(
        self,
        module: str,
        args: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        keep_fds: Sequence[int] = (),
        quiet: bool = True,
    ) -> None:
        self._errors = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - closed in close()
        reader, self._writer = os.pipe()
        ours = STEADY_MEMORY.items()  # a child must not inherit its parent's setting
        inherited = {name: value for name, value in os.environ.items() if (name, value) not in ours}
        variables = {**SLEEPY_THREADS, **inherited, **(environment or {})}
        variables[lifeline.PIPE_VARIABLE] = str(reader)
        variables[lifeline.PARENT_VARIABLE] = str(os.getpid())
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *args],
                env=variables,
                stdin=stdin,
                stdout=stdout if stdout is not None else (self._errors if quiet else sys.stderr),
                stderr=stderr if stderr is not None else self._errors,
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
        """End it and its own children now (SIGKILL): they would hold the locks that they inherited."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self, seconds: float) -> int | None:
        """Exit status once it has ended; None if it still runs after `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def peak_bytes(self) -> int:
        """Its peak resident memory so far, by the kernel's count; 0 once it has ended."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as lines:
                found = next((line for line in lines if line.startswith(b"VmHWM:")), b"VmHWM: 0 kB")
        except OSError:
            return 0
        return int(found.split()[1]) * 1024

    def tail(self) -> str:
        """The end of its output, for a message; empty unless `quiet`."""
        if self._errors is None:
            return ""
        # pread: a seek would also move the child's position, which shares this file.
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace").strip()

    def close(self) -> None:
        """Kill it if it still runs, reap it, and free what the handle holds. Safe to call again.

        A process that hangs in a driver or on a dead disk may survive even this; it is not waited for.
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
    """The error for a process that ended with `code`: its own message, or else `otherwise`. UsageError for exit code 2."""
    message = error_text(tail) or otherwise
    return UsageError(message) if code == EXIT_USAGE else EmbedfleetError(message)


def error_text(tail: str) -> str:
    """The message after the last ERROR_MARK in a process's output; the whole output if there is no mark."""
    return f"\n{tail}".rpartition(f"\n{ERROR_MARK}")[2].strip()
