"""A child ends when its parent does, whatever it is doing.

Two independent means: the kernel's parent-death signal, and a thread that reads from a pipe whose other end only the parent
holds. The parent is checked again after the signal is armed, since it may have died in between.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PIPE_VARIABLE = "EMBEDFLEET_LIFELINE"
PARENT_VARIABLE = "EMBEDFLEET_PARENT"
EXIT_ORPHANED = 79
"""Exit code of a child whose parent is gone."""

_PR_SET_PDEATHSIG = 1


def hold() -> None:
    """Tie this process to the parent that started it; call first thing in main. Without such a parent, do nothing."""
    parent = os.environ.pop(PARENT_VARIABLE, None)
    pipe = os.environ.pop(PIPE_VARIABLE, None)
    if parent is None or pipe is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):
            os._exit(EXIT_ORPHANED)
    threading.Thread(target=_watch, args=(int(pipe),), name="lifeline", daemon=True).start()


def _watch(pipe: int) -> None:
    os.set_inheritable(pipe, False)
    os.read(pipe, 1)  # returns only at end of file: nobody writes
    os._exit(EXIT_ORPHANED)
