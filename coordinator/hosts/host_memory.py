"""The host's memory: how much is left, for this container too, and whether the kernel killed a process for lack of it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ...protocol.host.free_memory import CGROUPS, available, read_field

LEAST_BYTES = 192 << 20
LEAST_SHARE = 0.02
MOST_BYTES = 4 << 30
"""Memory to keep free: a share of all memory, within these bounds. Below it a worker is killed, before the kernel picks a
process or the host swaps. Without the upper bound, tens of gigabytes of a large host would stay unused."""
LOOK_SECONDS = 0.5
RECENT_SECONDS = 5.0
"""Longest time between a kill by the kernel and the discovery of the process's end."""
RECOVERY_SECONDS = 5.0
"""Pause after one worker was killed, before another is."""


class HostMemory:
    """Watches for memory that runs out. `look` returns the available and the total bytes."""

    def __init__(self, look: Callable[[], tuple[int, int]] | None = None, root: Path = CGROUPS) -> None:
        self._look = look or (lambda: available(root))
        self._root = root
        self._next = 0.0
        self._kills: deque[tuple[float, int]] = deque([(-math.inf, oom_kills(root))])
        """(time, number of kills by the kernel) of each look; the first one is older than RECENT_SECONDS."""

    def short(self, now: float) -> str:
        """Why a worker must end now; empty: none must. Looks once in LOOK_SECONDS at most."""
        if now < self._next:
            return ""
        self._next = now + LOOK_SECONDS
        self._kills.append((now, oom_kills(self._root)))
        while self._kills[1][0] < now - RECENT_SECONDS:
            self._kills.popleft()
        try:
            left, total = self._look()
        except OSError:  # no file can be opened: no reason to end a worker, or this process
            return ""
        if left >= max(LEAST_BYTES, min(int(total * LEAST_SHARE), MOST_BYTES)):
            return ""
        self._next = now + RECOVERY_SECONDS
        return f"the host's memory runs out: {left >> 20} of {total >> 20} MiB are left"

    def killed(self) -> bool:
        """Whether the kernel killed a process for lack of memory in the last seconds.

        A kill of hours ago does not explain a signal of today; of two kills at once, both are explained.
        """
        return oom_kills(self._root) > self._kills[0][1]


def oom_kills(root: Path = CGROUPS) -> int:
    """How many processes the kernel has killed for lack of memory, on this host and in this container."""
    counted = read_field(Path("/proc/vmstat"), "oom_kill")
    counted += read_field(root / "memory.events", "oom_kill")
    return counted + read_field(root / "memory" / "memory.oom_control", "oom_kill")
