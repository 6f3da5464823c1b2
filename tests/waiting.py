"""Waiting for a condition with a deadline, and knowing whether a process is gone; for the process and service rings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import psutil

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 15.0, what: str = "it") -> T:
    """What `condition` returns as soon as that is true; fails after `seconds`."""
    give_up = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < give_up, f"{what}: not within {seconds} s"
        time.sleep(0.01)  # between two looks; nothing relies on how long it takes
    return value


def is_gone(process: psutil.Process) -> bool:
    """Whether the process has ended; one that nobody has reaped yet counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_gone(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Wait until all have ended; fails, naming those that have not, after `seconds`."""
    known = list(processes)
    give_up = time.monotonic() + seconds
    while left := [one for one in known if not is_gone(one)]:
        assert time.monotonic() < give_up, f"still there after {seconds} s: {left}"
        time.sleep(0.01)


def descendants(pid: int) -> list[psutil.Process]:
    """The children of a process, theirs, and so on."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def children_with(word: str) -> list[psutil.Process]:
    """The children of this process, not yet ended, that have this among their arguments."""

    def has(process: psutil.Process) -> bool:
        try:
            return word in process.cmdline()
        except psutil.Error:  # it has ended
            return False

    return [one for one in psutil.Process().children() if has(one)]
