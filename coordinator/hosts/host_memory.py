"""The host's memory: how much is left, for this container too, and whether the kernel killed a process for lack of it."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil

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

_ROOT = Path("/sys/fs/cgroup")


class HostMemory:
    """Watches for memory that runs out. `look` returns the available and the total bytes."""

    def __init__(self, look: Callable[[], tuple[int, int]] | None = None, root: Path = _ROOT) -> None:
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


def available(root: Path = _ROOT) -> tuple[int, int]:
    """Available and total bytes: the host's, or the container's where those are fewer."""
    host = psutil.virtual_memory()
    left, total = int(host.available), int(host.total)
    for folder, limit, usage, idle in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None and most < total:
            left, total = min(left, most - used + _field(folder / "memory.stat", idle)), most
    return max(left, 0), total


def oom_kills(root: Path = _ROOT) -> int:
    """How many processes the kernel has killed for lack of memory, on this host and in this container."""
    counted = _field(Path("/proc/vmstat"), "oom_kill")
    counted += _field(root / "memory.events", "oom_kill")
    return counted + _field(root / "memory" / "memory.oom_control", "oom_kill")


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # no such controller; `max`: no limit
        return int(path.read_text())
    return None


def _field(path: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
