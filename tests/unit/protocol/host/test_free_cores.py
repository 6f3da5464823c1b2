"""Free cores, from files like those of /proc and /sys."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from embedfleet.protocol.host import free_cores
from embedfleet.protocol.host.free_cores import CoreLoad, FreeCores, cpu_quota, find_free_cores

TICK = os.sysconf("SC_CLK_TCK")


class FakeSystem:
    """A folder with `proc`, and the folders in which cgroups are mounted."""

    def __init__(self, folder: Path) -> None:
        self.proc, self._folder = folder / "proc", folder
        (self.proc / "self").mkdir(parents=True)
        self._mounts = ["22 1 0:20 / /proc rw,relatime - proc proc rw"]

    def joins(self, *lines: str) -> None:
        (self.proc / "self" / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def mounts(self, name: str, kind: str, options: str, root: str = "/") -> Path:
        folder = self._folder / name
        folder.mkdir()
        self._mounts.append(f"31 23 0:28 {root} {folder} rw,relatime shared:9 - {kind} {kind} {options}")
        (self.proc / "self" / "mountinfo").write_text("\n".join(self._mounts) + "\n")
        return folder

    def stat(self, *rows: tuple[int, int]) -> None:
        """For each core: seconds busy and idle."""
        lines = [f"cpu{core} {busy * TICK} 0 0 {idle * TICK} 9 0 0 0 0 0" for core, (busy, idle) in enumerate(rows)]
        (self.proc / "stat").write_text("\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr 1 2 3"]) + "\n")


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    return FakeSystem(tmp_path)


def quota_2(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(text + "\n")


def quota_1(folder: Path, quota: int, period: int = 100_000) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


class TestQuota:
    def test_no_files_no_quota(self, tmp_path: Path) -> None:
        assert cpu_quota(tmp_path) == math.inf

    @pytest.mark.parametrize(
        ("text", "quota"), [("150000 100000", 1.5), ("max 100000", math.inf), ("", math.inf), ("x y", math.inf)]
    )
    def test_version_2(self, system: FakeSystem, text: str, quota: float) -> None:
        system.joins("0::/jobs/one")
        quota_2(system.mounts("cg", "cgroup2", "rw,nsdelegate") / "jobs" / "one", text)
        assert cpu_quota(system.proc) == quota

    def test_the_smallest_quota_of_all_levels_counts(self, system: FakeSystem) -> None:
        system.joins("0::/jobs/one/deep")
        folder = system.mounts("cg", "cgroup2", "rw")
        quota_2(folder / "jobs", "200000 100000")
        quota_2(folder / "jobs" / "one", "300000 100000")
        quota_2(folder / "jobs" / "one" / "deep", "max 100000")
        quota_2(folder / "jobs" / "two", "100000 100000")
        assert cpu_quota(system.proc) == 2.0

    @pytest.mark.parametrize(("quota", "found"), [(50_000, 0.5), (-1, math.inf)])
    def test_version_1(self, system: FakeSystem, quota: int, found: float) -> None:
        system.joins("9:name=systemd:/x", "4:memory:/a", "1:cpu,cpuacct:/jobs", "0::/")
        system.mounts("memory", "cgroup", "rw,memory")
        quota_1(system.mounts("cpu", "cgroup", "rw,cpu,cpuacct") / "jobs", quota)
        assert cpu_quota(system.proc) == found

    def test_other_controllers_are_not_looked_at(self, system: FakeSystem) -> None:
        system.joins("4:cpuset:/a", "5:cpuacct:/a")
        quota_1(system.mounts("set", "cgroup", "rw,cpuset") / "a", 100_000)
        quota_1(system.mounts("acct", "cgroup", "rw,cpuacct") / "a", 100_000)
        assert cpu_quota(system.proc) == math.inf

    def test_a_container_sees_the_hosts_path_and_only_its_own_folder(self, system: FakeSystem) -> None:
        """Only `/docker/abc` of the host's tree is mounted, and it is the root of the mount."""
        system.joins("1:cpu:/docker/abc/inner")
        folder = system.mounts("cpu", "cgroup", "rw,cpu", root="/docker/abc")
        quota_1(folder, 300_000)
        quota_1(folder / "inner", 200_000)
        assert cpu_quota(system.proc) == 2.0

    def test_a_path_outside_of_what_is_mounted_means_its_root(self, system: FakeSystem) -> None:
        system.joins("0::/elsewhere")
        quota_2(system.mounts("cg", "cgroup2", "rw", root="/docker/abc"), "100000 100000")
        assert cpu_quota(system.proc) == 1.0

    def test_a_period_of_nothing_is_no_quota(self, system: FakeSystem) -> None:
        system.joins("1:cpu:/")
        quota_1(system.mounts("cpu", "cgroup", "rw,cpu"), 1_000, 0)
        assert cpu_quota(system.proc) == math.inf


class TestLoad:
    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """A second passes between two looks at the clock, and nobody sleeps."""
        now = [0.0]

        def monotonic() -> float:
            now[0] += 1.0
            return now[0]

        monkeypatch.setattr(free_cores.time, "monotonic", monotonic)
        monkeypatch.setattr(free_cores, "_own_seconds", lambda: 0.0)
        return now

    def test_what_others_take_of_our_cores(self, system: FakeSystem) -> None:
        system.stat((10, 10), (20, 10), (30, 10))
        load = CoreLoad(system.proc)
        system.stat((12, 10), (21, 11), (32, 10))  # 2 s later: busy, half busy, busy
        assert load.busy((0, 1)) == 1.5

    def test_our_own_time_does_not_count(self, system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        system.stat((10, 10), (20, 10))
        load = CoreLoad(system.proc)
        system.stat((12, 10), (21, 11))
        monkeypatch.setattr(free_cores, "_own_seconds", lambda: 1.0)
        assert load.busy((0, 1)) == 1.0

    def test_a_load_is_within_its_bounds(self, system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
        system.stat((10, 10), (20, 10))
        load = CoreLoad(system.proc)
        system.stat((90, 10), (90, 10))
        assert load.busy((0, 1)) == 2.0
        monkeypatch.setattr(free_cores, "_own_seconds", lambda: 1_000.0)
        assert load.busy((0, 1)) == 0.0

    def test_a_kernel_that_does_not_say(self, tmp_path: Path) -> None:
        assert CoreLoad(tmp_path).busy((0, 1)) == 0.0

    def test_a_core_that_came_meanwhile(self, system: FakeSystem) -> None:
        system.stat((10, 10))
        load = CoreLoad(system.proc)
        system.stat((11, 11), (500, 1))
        assert load.busy((0, 1)) == 0.5


class TestThreads:
    @pytest.mark.parametrize(
        ("cores", "quota", "threads"),
        [(4, math.inf, 4), (4, 8.0, 4), (4, 1.0, 1), (4, 1.2, 2), (4, 0.1, 1), (1, math.inf, 1)],
    )
    def test_by_affinity_and_quota(self, cores: int, quota: float, threads: int) -> None:
        assert FreeCores(tuple(range(cores)), 64, quota).threads == threads

    @pytest.mark.parametrize(
        ("cores", "busy", "computing"), [(2, 2.0, 2), (16, 16.0, 16), (32, 0.4, 32), (32, 9.6, 22), (32, 31.0, 16)]
    )
    def test_the_load_of_others_takes_only_from_what_is_beyond_independent_threads(
        self, cores: int, busy: float, computing: int
    ) -> None:
        found = FreeCores(tuple(range(cores)), cores, busy=busy)
        assert (found.threads, found.computing) == (cores, computing)

    def test_what_is_said(self) -> None:
        assert FreeCores((0, 1), 2, 2.0, 0.4).describe() == ""
        assert FreeCores((0, 1), 8, 1.5, 0.5).describe() == (
            "2 of 8 by affinity, 1.5 by the cgroup's quota, other processes kept 0.5 cores busy at the start"
        )


def test_this_process_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_cores, "cpu_quota", lambda _proc: 1.0)
    found = find_free_cores()
    assert set(found.cores) == os.sched_getaffinity(0)
    assert found.host >= len(found.cores)
    assert found.threads == 1
