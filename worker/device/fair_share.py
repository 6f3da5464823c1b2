"""The worker's share of cores that other sessions use too."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

STEP = 1.25
"""Two neighbouring nice values differ by this factor in processor time (sched(7))."""
LEAST_NICE = -20


def weigh_threads(threads: int, file: Path = Path("/proc/self/autogroup")) -> bool:
    """Ask for the share of `threads` processes. Whether the kernel grants it: it takes a right (CAP_SYS_NICE).

    Linux gives each session the same share ("autogroup" in sched(7)): a worker of n threads would get as much as a loop of one
    thread that another session runs, and n workers of one thread would get n times as much.
    """
    nice = max(LEAST_NICE, -round(math.log(max(threads, 1), STEP)))
    if nice == 0:
        return True
    with contextlib.suppress(OSError):  # no such file: there are no groups of sessions; or it is not permitted
        file.write_text(str(nice))
        return True
    return False
