"""The signals that ask a process to end: SIGINT, SIGTERM, and SIGHUP of a terminal that was closed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
