"""The cores that workers of this host may use: by affinity, by the quotas of its cgroups, and what other processes take."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
SAMPLE_SECONDS = 0.05
"""The shortest time over which the load of others is measured: five ticks of the kernel's clock."""
INDEPENDENT = 16
"""So many threads of a worker do not wait for each other (MOST_STREAMS in worker/device/streams.py)."""
BUSY = 0.5
"""Load of others, in cores, that is worth a word."""


@dataclass(frozen=True, slots=True)
class FreeCores:
    """`cores` are those that the affinity allows, of `host` in all."""

    cores: tuple[int, ...]
    host: int
    quota: float = math.inf
    """Cores' worth of time that the cgroups allow."""
    busy: float = 0.0
    """Cores' worth of time that other processes took of `cores`."""

    @property
    def threads(self) -> int:
        """How many threads can compute at the same time; at least 1.

        A part of a core counts as one: only then is all of it used. The load of others does not count: a thread that waits
        for no other gets its share beside them.
        """
        return max(1, min(len(self.cores), math.ceil(min(self.quota, len(self.cores)))))

    @property
    def computing(self) -> int:
        """Threads for a worker. Those beyond INDEPENDENT wait for others, so each of them needs a core that is idle."""
        idle = self.threads - math.ceil(self.busy - BUSY)
        return max(min(self.threads, INDEPENDENT), idle)

    def describe(self) -> str:
        """Why these are fewer than the host has, and what others took of them; empty if there is nothing to say."""
        limits: list[str] = []
        if len(self.cores) < self.host:
            limits.append(f"{len(self.cores)} of {self.host} by affinity")
        if self.quota < len(self.cores):
            limits.append(f"{self.quota:.3g} by the cgroup's quota")
        if self.busy >= BUSY:
            limits.append(f"other processes kept {self.busy:.1f} cores busy at the start")
        return ", ".join(limits)


class CoreLoad:
    """Measures what other processes take of the cores, from when it is made."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._start, self._mine = time.monotonic(), _own_seconds()
        self._before = _busy_seconds(proc)

    def busy(self, cores: tuple[int, ...]) -> float:
        """Cores' worth of time that other processes took of `cores` since then; 0 where the kernel does not say."""
        left = SAMPLE_SECONDS - (time.monotonic() - self._start)
        if left > 0:
            time.sleep(left)
        seconds, mine = time.monotonic() - self._start, _own_seconds() - self._mine
        after = _busy_seconds(self._proc)
        used = sum(after[core] - self._before[core] for core in cores if core in after and core in self._before)
        return min(max(0.0, (used - mine) / seconds), float(len(cores)))


def find_free_cores(load: CoreLoad | None = None, proc: Path = PROC) -> FreeCores:
    """This process's cores. `load` began earlier; without it the load is measured over SAMPLE_SECONDS."""
    cores = allowed_cores()
    load = load or CoreLoad(proc)
    return FreeCores(cores, max(os.cpu_count() or 1, len(cores)), cpu_quota(proc), load.busy(cores))


def allowed_cores() -> tuple[int, ...]:
    """The numbers of the cores that this process's affinity allows."""
    with contextlib.suppress(AttributeError):  # no such call on this system
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota(proc: Path = PROC) -> float:
    """Cores' worth of time that the cgroups of this process allow, on any level; infinite where no quota is set."""
    return min((quota for folder in _cgroup_folders(proc) for quota in _quotas(folder)), default=math.inf)


def _quotas(folder: Path) -> Iterator[float]:
    """The quota of one cgroup, of version 2 or 1."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no such file; `max`: no quota
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:  # -1: none is set
            yield quota / int((folder / "cpu.cfs_period_us").read_text())


def _cgroup_folders(proc: Path) -> Iterator[Path]:
    """The folders of the cgroups that this process is in, from its own up to the highest that is mounted here."""
    with contextlib.suppress(OSError):
        paths = dict(_memberships((proc / "self" / "cgroup").read_text()))
        for version, root, folder in _mounts((proc / "self" / "mountinfo").read_text()):
            if version in paths:
                inside = PurePosixPath(paths[version])
                # In a container the path may be the host's, and only a part of it be mounted.
                below = inside.relative_to(root) if inside.is_relative_to(root) else PurePosixPath()
                yield from (folder / level for level in (below, *below.parents))


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    """From the lines of /proc/self/cgroup: (`cgroup2` or `cgroup`, path), version 1 for the controller `cpu` only."""
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield "cgroup2", path
        elif "cpu" in controllers.split(","):
            yield "cgroup", path


def _mounts(text: str) -> Iterator[tuple[str, str, Path]]:
    """From the lines of /proc/self/mountinfo: (`cgroup2` or `cgroup`, mounted root, folder), version 1 as in `_memberships`."""
    for line in text.splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield kind, mount.split(" ")[3], Path(mount.split(" ")[4])


def _busy_seconds(proc: Path) -> dict[int, float]:
    """Seconds that each core has been busy since the host's start; empty where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError):
        tick = os.sysconf("SC_CLK_TCK")
        rows = (line.split() for line in (proc / "stat").read_text().splitlines())
        return {int(row[0][3:]): _busy_ticks(row) / tick for row in rows if row[0][:3] == "cpu" and row[0] != "cpu"}
    return {}


def _busy_ticks(row: list[str]) -> int:
    """Of the columns user, nice, system, idle, iowait, irq, softirq and steal, all but the two in the middle."""
    return sum(int(ticks) for ticks in (*row[1:4], *row[6:9]))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
