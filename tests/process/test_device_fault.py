"""A fault that the driver reports of a GPU, from the worker's end to the pool: the device is given up, no batch is blamed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from embedfleet.coordinator.core import events as ev
from embedfleet.coordinator.hosts import agent as host_agent
from embedfleet.coordinator.hosts.agent import HostAgent
from embedfleet.coordinator.links.host_link import HostLink
from embedfleet.protocol.wire.devices import Device, MemorySample
from embedfleet.protocol.wire.hosts import WorkerGone, WorkerSpawned

from ..pool_driver import Driver

DEVICE = Device(uuid="GPU-1", name="a GPU", kind="cpu", memory=1 << 30, threads=1)


class Lease:
    """A GpuLease whose driver reports XIDs. The memory is released at the second look."""

    lock, before = None, MemorySample(phase="before", used=1, total=2, source="nvml")

    def __init__(self, device: Device, driver: None = None) -> None:
        assert driver is None
        self.device, self.workers, self.looks = device, set[str](), 0
        self.told = [31, 79]
        self.hung = False

    def faults(self, *, now: bool = False) -> list[int]:
        del now
        told, self.told = self.told, []
        return told

    def memory_released(self, _since: float) -> tuple[MemorySample, bool] | None:
        self.looks += 1
        return (self.before, True) if self.looks > 1 else None

    def release(self) -> None:
        pass


@pytest.fixture
def agent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostAgent]:
    monkeypatch.setattr(host_agent, "GpuLease", Lease)
    made = HostAgent("h", (DEVICE,), f"ipc://{folder}/work")
    yield made
    made.close()


class HungLease(Lease):
    """A GpuLease whose driver does not answer."""

    def __init__(self, device: Device, driver: None = None) -> None:
        super().__init__(device, driver)
        self.told, self.hung = [], True

    def memory_released(self, _since: float) -> tuple[MemorySample | None, bool] | None:
        return None, True


def test_a_driver_that_hangs_gives_the_device_up_when_its_worker_has_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch, waiting: Any
) -> None:
    monkeypatch.setattr(host_agent, "GpuLease", HungLease)
    agent = HostAgent("h", (DEVICE,), f"ipc://{folder}/work")
    try:
        spawned = agent.spawn("w0", DEVICE.uuid, 1)
        assert isinstance(spawned, WorkerSpawned)
        psutil.Process(spawned.pid).kill()
        gone = waiting.eventually(lambda: [one for one in agent.reap() if isinstance(one, WorkerGone)])[0]
    finally:
        agent.close()
    assert (gone.memory, gone.released, gone.end.fault) == (None, True, host_agent.HUNG)


@pytest.mark.parametrize("ends_by_itself", [True, False])
def test_an_xid_gives_the_device_up_at_once(agent: HostAgent, waiting: Any, ends_by_itself: bool) -> None:
    """Also where the worker hangs, waiting for a kernel that may never return."""
    driver = Driver(DEVICE)
    driver.run(ev.PassPlan("v"))
    emitted: list[Any] = []
    silent = SimpleNamespace(local=agent, receive=lambda _now: ())
    context: Any = SimpleNamespace(hosts=silent, released=set(), runs={}, emit=emitted.append)
    spawned = agent.spawn("w0", DEVICE.uuid, 1)
    assert isinstance(spawned, WorkerSpawned)
    psutil.Process(spawned.pid).send_signal(signal.SIGABRT if ends_by_itself else signal.SIGSTOP)
    reports = HostLink(context)

    def told() -> list[Any]:
        reports.gather(0.0)
        return emitted[1:]

    waiting.eventually(told, what="both reports of the end")
    died, exited = emitted
    assert isinstance(died, ev.WorkerDied)
    assert (died.worker, died.innocent) == ("w0", True)
    assert isinstance(exited, ev.WorkerExited)
    assert (exited.worker, exited.fault) == ("w0", "XID 79: it has fallen off the bus")
    for event in emitted:
        driver.tell(event)
    assert driver.pool.fleet.devices[DEVICE.uuid].health.bad == "XID 79: it has fallen off the bus"
