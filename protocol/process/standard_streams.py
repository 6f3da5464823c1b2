"""Standard streams that cannot end a process: a message that cannot be written is dropped.

A closed pipe (`2>&1 | head -1`), a full disk under a log, or a closed descriptor must not end a coordinator in the middle of
a run, nor a command before it sets its exit code. Each process calls one of the two functions before it opens a file.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

PIPE_BYTES = 4096
"""Bytes that a ready pipe takes without waiting (PIPE_BUF)."""


class DroppingOutput(io.RawIOBase):
    """An output that drops what cannot be written; `error` is the first error.

    If `patient`, writing waits for a slow reader. Otherwise it drops what it would have to wait for: a stopped terminal must
    not block a loop that serves others.
    """

    def __init__(self, fd: int, *, patient: bool) -> None:
        self._fd, self._patient = fd, patient
        self.error: OSError | None = None

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        """Write what fits now and return its length. If nothing can be written, drop `data` and return its full length."""
        whole = memoryview(data)
        try:
            if self._ready():
                return os.write(self._fd, whole[:PIPE_BYTES])
        except OSError as error:
            self.error = self.error or error
        return len(whole)

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(None if self._patient else 0))


def guard_standard_error(*, patient: bool = True) -> None:
    """Make `sys.stderr` drop what cannot be written, and open /dev/null for closed standard descriptors."""
    _fill_closed()
    sys.stderr = _text(DroppingOutput(2, patient=patient))


def guard_standard_streams() -> DroppingOutput:
    """Do the same for `sys.stdout` too. `error` of the returned output is set if data was lost."""
    guard_standard_error()
    output = DroppingOutput(1, patient=True)
    sys.stdout = _text(output)
    return output


def _fill_closed() -> None:
    """Open /dev/null for closed standard descriptors. Otherwise the next opened file would become a standard stream, of this
    process and of its children."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def _text(raw: DroppingOutput) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(raw)
    line_buffering = raw.fileno() == 2 or raw.isatty()
    return io.TextIOWrapper(buffer, "utf-8", errors="backslashreplace", line_buffering=line_buffering)
