"""The memory that is available on this host, or in this container where it is less."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")


def available(root: Path = CGROUPS) -> tuple[int, int]:
    """Available and total bytes: the host's, or the container's where those are fewer."""
    host = psutil.virtual_memory()
    left, total = int(host.available), int(host.total)
    for folder, limit, usage, idle in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None and most < total:
            left, total = min(left, most - used + read_field(folder / "memory.stat", idle)), most
    return max(left, 0), total


def read_field(path: Path, name: str) -> int:
    """The number on the line that begins with `name`; 0 if the file or the line is not there."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # no such controller; `max`: no limit
        return int(path.read_text())
    return None
