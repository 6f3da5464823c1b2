"""The signals after which a process ends in order: SIGINT, SIGTERM, and SIGHUP, which a closed terminal sends."""

from __future__ import annotations

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals to handle: without SIGHUP if the process was started to ignore it (nohup)."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def ignore_stop_signals() -> None:
    """Ignore them, since the parent handles them; call first thing in main.

    A scheduler signals every process of a job, but workers and exporters must run until the parent has drained them.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
