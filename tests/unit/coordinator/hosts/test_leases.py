"""Device locks between processes, and what a lease says of the memory after a worker's end."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedfleet.coordinator.hosts import lease as leases
from embedfleet.coordinator.hosts.lease import RELEASE_SECONDS, RELEASE_SLACK, DeviceBusy, DeviceLock, GpuLease
from embedfleet.protocol.host.gpu_driver import GpuDriver
from embedfleet.protocol.wire.devices import Device, MemorySample

CPU = Device(uuid="cpu-h-0", kind="cpu", name="cpu:0", memory=1, threads=1)
GPU = Device(uuid="GPU-aaaa", kind="cuda", name="fake (cuda:0)", memory=80 << 30, threads=1)

TRY = """
import sys
from pathlib import Path
from embedfleet.coordinator.hosts.lease import DeviceBusy, DeviceLock
try:
    DeviceLock("GPU-aaaa", Path(sys.argv[1]))
except DeviceBusy as error:
    print(error)
else:
    print("held")
"""
KEEP = "import sys; print('up', flush=True); sys.stdin.read()"


def try_elsewhere(folder: Path) -> str:
    """What another process hears when it asks for the lock."""
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(folder)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_a_device_is_held_by_one_process(tmp_path: Path) -> None:
    lock = DeviceLock("GPU-aaaa", tmp_path)
    assert try_elsewhere(tmp_path) == "held by another run on this host"
    lock.release()
    assert try_elsewhere(tmp_path) == "held"


def test_two_locks_in_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    lock = DeviceLock("GPU-aaaa", tmp_path)
    other = DeviceLock("GPU-bbbb", tmp_path)
    with pytest.raises(DeviceBusy):
        DeviceLock("GPU-aaaa", tmp_path)
    lock.release()
    other.release()
    DeviceLock("GPU-aaaa", tmp_path).release()


def test_a_worker_that_inherited_the_lock_keeps_it_to_its_end(tmp_path: Path) -> None:
    lock = DeviceLock("GPU-aaaa", tmp_path)
    command = [sys.executable, "-c", KEEP]
    with subprocess.Popen(command, pass_fds=[lock.fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"up\n"
        lock.release()
        assert try_elsewhere(tmp_path).startswith("held by another run")
        worker.kill()
        worker.wait()
        assert try_elsewhere(tmp_path) == "held"


def test_a_lock_is_not_inherited_unless_it_is_handed_on(tmp_path: Path) -> None:
    lock = DeviceLock("GPU-aaaa", tmp_path)
    command = [sys.executable, "-c", KEEP]
    with subprocess.Popen(command, close_fds=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        lock.release()
        assert try_elsewhere(tmp_path) == "held"
        child.kill()


def test_a_uuid_makes_a_plain_file_name(tmp_path: Path) -> None:
    DeviceLock("MIG-1/../2", tmp_path / "locks").release()
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["MIG-1____2.lock"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "GPU-aaaa.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        DeviceLock("GPU-aaaa", tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_driver_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is slow, then it hangs, and what its GPU's memory does is not known; once it answers, all is as before."""
    lock, healthy, clock = DeviceLock, threading.Event(), [100.0]
    asked: list[str] = []

    def sample(device: Device, phase: str) -> MemorySample:
        asked.append(phase)
        if phase == "after":
            healthy.wait(30)
        return MemorySample(phase=phase, used=1, total=device.memory, source="nvml")

    monkeypatch.setattr(leases, "sample_memory", sample)
    monkeypatch.setattr(leases, "DeviceLock", lambda uuid: lock(uuid, tmp_path))
    monkeypatch.setattr(leases, "XidWatch", lambda _uuid: Watch([79]))
    monkeypatch.setattr(leases, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    driver = GpuDriver()
    lease = GpuLease(GPU, driver)
    assert lease.before is not None
    assert lease.memory_released(100.0) is None
    clock[0] += leases.HUNG_SECONDS / 2
    assert lease.memory_released(100.0) is None, "it may be slow"
    assert not lease.hung
    assert lease.faults(now=True) == []
    clock[0] += leases.HUNG_SECONDS
    assert lease.memory_released(100.0) == (None, True)
    assert lease.hung
    assert asked == ["before", "after"], "not asked again before it has answered"
    healthy.set()
    monkeypatch.setattr(leases, "ANSWER_SECONDS", 30.0)
    assert lease.faults(now=True) == [79], "what it tells late is told"
    released = lease.memory_released(clock[0])
    assert released is not None
    assert released[1]
    assert not lease.hung
    lease.release()
    driver.close()


class Watch:
    """An XidWatch with XIDs to tell."""

    def __init__(self, xids: list[int]) -> None:
        self._xids = xids

    def take(self) -> list[int]:
        told, self._xids = self._xids, []
        return told

    def close(self) -> None:
        self._xids = []


def test_a_cpu_slot_needs_no_lock_and_releases_its_memory_at_once() -> None:
    lease = GpuLease(CPU)
    assert lease.lock is None
    assert lease.before.phase == "before"
    assert lease.before.source == "host"
    assert 0 < lease.before.used < lease.before.total
    released = lease.memory_released(since=0.0)
    assert released is not None
    assert released[0].phase == "after"
    assert released[1]
    lease.release()


class TestGpuMemory:
    """A GPU whose memory in use the test sets."""

    used = 1 << 30
    clock = 100.0

    @pytest.fixture(autouse=True)
    def fake(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        lock = DeviceLock
        monkeypatch.setattr(leases, "sample_memory", lambda device, phase: self._sample(device, phase))
        monkeypatch.setattr(leases, "DeviceLock", lambda uuid: lock(uuid, tmp_path))
        monkeypatch.setattr(leases.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(leases, "SOON", 30.0)
        self.driver = GpuDriver()
        yield
        self.driver.close()

    def _sample(self, device: Device, phase: str) -> MemorySample:
        return MemorySample(phase=phase, used=self.used, total=device.memory, source="nvml")

    def test_memory_back_at_its_level_is_released(self) -> None:
        lease = GpuLease(GPU, self.driver)
        self.used += RELEASE_SLACK
        released = lease.memory_released(self.clock)
        assert released is not None
        assert released[1]
        lease.release()

    def test_the_driver_is_given_time_and_then_it_is_said(self) -> None:
        lease = GpuLease(GPU, self.driver)
        self.used += RELEASE_SLACK + 1
        ended = self.clock
        assert lease.memory_released(ended) is None
        self.clock += RELEASE_SECONDS + 0.1
        released = lease.memory_released(ended)
        assert released is not None
        assert not released[1]
        lease.release()

    def test_the_level_does_not_count_while_the_next_worker_is_there(self) -> None:
        lease = GpuLease(GPU, self.driver)
        lease.workers.add("w2")
        self.used += 10 << 30
        released = lease.memory_released(self.clock)
        assert released is not None
        assert released[1]
        lease.release()

    def test_a_lease_holds_the_lock(self) -> None:
        lease = GpuLease(GPU, self.driver)
        with pytest.raises(DeviceBusy):
            GpuLease(GPU, self.driver)
        lease.release()
        GpuLease(GPU, self.driver).release()
