"""The signals that ask a process to end: SIGINT, SIGTERM, and SIGHUP of a terminal that was closed."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_SIGNAL_SECONDS = 1.0
"""A SIGTERM or SIGHUP within this time of one of the same kind is the same signal. A scheduler sends it to all processes of a
job, and a parent may forward its own."""


def catch_stop_signals(handle: Callable[[int, FrameType | None], object]) -> dict[signal.Signals, Any]:
    """Call `handle` for each of them from now on; return the handlers that were there before.

    A SIGHUP that is ignored stays ignored: `nohup` asks for that.
    """
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if number != signal.SIGHUP or handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    return before


def restore_stop_signals(before: dict[signal.Signals, Any]) -> None:
    """Put back the handlers that `catch_stop_signals` returned."""
    for number, handler in before.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def ignore_stop_signals() -> None:
    """Ignore all of them, since the parent handles them; call first thing in main.

    A scheduler signals every process of a job, but workers and exporters must run until the parent has drained them.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def catching_signals() -> Generator[list[int]]:
    """Append SIGINT, SIGTERM and SIGHUP to the list, on which the caller's loop acts. A third signal raises KeyboardInterrupt.

    SIGTERM counts once within `ONE_SIGNAL_SECONDS`, and so does SIGHUP. SIGINT always counts: a person presses Ctrl-C twice.
    Only the main thread can handle signals in Python: in other threads the list stays empty.
    """
    received: list[int] = []
    counted: dict[int, float] = {}
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if number != signal.SIGINT and now - counted.get(number, -math.inf) < ONE_SIGNAL_SECONDS:
            return
        counted[number] = now
        received.append(number)
        if len(received) > 2:
            raise KeyboardInterrupt

    before = catch_stop_signals(note)
    try:
        yield received
    finally:
        restore_stop_signals(before)
