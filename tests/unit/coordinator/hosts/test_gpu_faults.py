"""XIDs as the driver tells them, and which of them are the GPU's own fault."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.hosts.xid import HARDWARE, XidWatch, hardware_fault


class FakeNvml:
    """NVML's event calls; `waiting` are the XIDs that the driver holds."""

    nvmlEventTypeXidCriticalError = 8

    class NVMLError(Exception):
        pass

    def __init__(self, *waiting: int, supported: bool = True) -> None:
        self.waiting, self.supported = list(waiting), supported
        self.sets = 0
        self.registered: list[tuple[str, int]] = []

    def nvmlInit(self) -> None:
        pass

    def nvmlShutdown(self) -> None:
        pass

    def nvmlEventSetCreate(self) -> str:
        self.sets += 1
        return "set"

    def nvmlEventSetFree(self, made: str) -> None:
        assert made == "set"
        self.sets -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return f"handle of {uuid}"

    def nvmlDeviceRegisterEvents(self, handle: str, kinds: int, made: str) -> None:
        if not self.supported:
            raise self.NVMLError("Not Supported")
        assert made == "set"
        self.registered.append((handle, kinds))

    def nvmlEventSetWait_v2(self, made: str, milliseconds: int) -> Any:
        assert (made, milliseconds) == ("set", 0)
        if not self.waiting:
            raise self.NVMLError("Timeout")
        return SimpleNamespace(eventData=self.waiting.pop(0))


def test_xids_are_told_once() -> None:
    nvml = FakeNvml(13, 79)
    watch = XidWatch("GPU-1", nvml)
    assert nvml.registered == [("handle of GPU-1", 8)]
    assert watch.take() == [13, 79]
    assert watch.take() == []
    watch.close()
    watch.close()
    assert nvml.sets == 0
    assert watch.take() == []


def test_where_none_can_be_told_none_come() -> None:
    nvml = FakeNvml(79, supported=False)
    watch = XidWatch("MIG-1", nvml)
    assert watch.take() == []
    watch.close()
    assert nvml.sets == 0, "the set is freed where the GPU cannot be watched"


@pytest.mark.parametrize(
    ("xids", "fault"),
    [([], ""), ([13, 31, 43], ""), ([31, 79], f"XID 79: {HARDWARE[79]}")],
    ids=["none", "a program's", "the hardware's"],
)
def test_what_gives_a_device_up(xids: list[int], fault: str) -> None:
    assert hardware_fault(xids) == fault
