"""The devices of a host: CPU slots, and GPUs and MIG slices from a fake NVML."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.hosts import discovery as devices
from embedfleet.coordinator.hosts.discovery import discover
from embedfleet.protocol.errors import DeviceError
from embedfleet.protocol.host.free_cores import FreeCores
from embedfleet.protocol.wire.devices import Device

CORES = (0, 1, 2, 3, 6, 7)


def has(monkeypatch: pytest.MonkeyPatch, cores: Sequence[int], quota: float = math.inf, busy: float = 0.0) -> None:
    """Let the host have these cores."""
    found = FreeCores(tuple(cores), len(cores), quota, busy)
    monkeypatch.setattr(devices, "find_free_cores", lambda _load: found)
    monkeypatch.setattr(devices, "allowed_cores", lambda: found.cores)
    monkeypatch.setattr(devices, "cpu_quota", lambda: quota)


def main_devices(wanted: str | None) -> list[Device]:
    """The devices without the helpers of a CPU slot."""
    return [device for device in discover(wanted, "h") if not device.helper]


@dataclass
class FakeGpu:
    """What NVML says of a GPU; `slices` are its MIG slices, None for a GPU that is not in MIG mode."""

    uuid: str
    name: str = "NVIDIA Fake"
    memory: int = 80 << 30
    capability: tuple[int, int] = (9, 0)
    slices: list[FakeGpu] | None = None


@dataclass
class FakeNvml:
    """Builds a module `pynvml`; `opened` counts nvmlInit less nvmlShutdown."""

    gpus: list[FakeGpu] = field(default_factory=list[FakeGpu])
    opened: int = 0

    def module(self) -> ModuleType:
        made: Any = ModuleType("pynvml")

        class NVMLError(Exception):
            pass

        def mig_mode(gpu: FakeGpu) -> list[int]:
            if gpu.slices is None:
                raise NVMLError("Not Supported")
            return [1, 1]

        def mig_slice(gpu: FakeGpu, number: int) -> FakeGpu:
            if gpu.slices is None or number >= len(gpu.slices):
                raise NVMLError("Not Found")
            return gpu.slices[number]

        made.NVMLError = NVMLError
        made.NVML_DEVICE_MIG_ENABLE = 1
        made.nvmlInit = lambda: self._open(1)
        made.nvmlShutdown = lambda: self._open(-1)
        made.nvmlDeviceGetCount = lambda: len(self.gpus)
        made.nvmlDeviceGetHandleByIndex = lambda index: self.gpus[index]
        made.nvmlDeviceGetUUID = lambda gpu: gpu.uuid
        made.nvmlDeviceGetName = lambda gpu: gpu.name
        made.nvmlDeviceGetMemoryInfo = lambda gpu: SimpleNamespace(total=gpu.memory, used=0)
        made.nvmlDeviceGetCudaComputeCapability = lambda gpu: gpu.capability
        made.nvmlDeviceGetMigMode = mig_mode
        made.nvmlDeviceGetMaxMigDeviceCount = lambda _gpu: 7
        made.nvmlDeviceGetMigDeviceHandleByIndex = mig_slice
        return made

    def _open(self, change: int) -> None:
        self.opened += change


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six processors, and no scheduler's choice of GPUs."""
    has(monkeypatch, CORES)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without the driver: importing the module works, nvmlInit does not."""
    made: Any = ModuleType("pynvml")

    def refuse() -> None:
        raise RuntimeError("NVML Shared Library Not Found")

    made.nvmlInit = refuse
    monkeypatch.setitem(sys.modules, "pynvml", made)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs."""
    fake = FakeNvml([FakeGpu("GPU-aaaa"), FakeGpu("GPU-bbbb", "NVIDIA Old", 16 << 30, (7, 5))])
    monkeypatch.setitem(sys.modules, "pynvml", fake.module())
    return fake


def test_a_driver_that_hangs_is_named_and_is_not_asked_by_who_wants_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = ModuleType("pynvml")
    healthy = threading.Event()
    made.nvmlInit = lambda: healthy.wait(30)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(devices, "DRIVER_SECONDS", 0.05)
    try:
        for wanted in (None, "cuda:0", "cpu,GPU-aaaa"):
            with pytest.raises(DeviceError, match="driver has not answered"):
                discover(wanted, "h")
        assert [slot.kind for slot in main_devices("cpu")] == ["cpu"]
    finally:
        healthy.set()


@pytest.mark.usefixtures("no_nvml")
class TestWithoutGpus:
    def test_one_slot_with_all_processors_that_is_not_pinned(self) -> None:
        (slot,) = main_devices(None)
        assert (slot.uuid, slot.kind, slot.name) == ("cpu-h-0", "cpu", "cpu:0 (6 threads)")
        assert (slot.threads, slot.cores, slot.auxiliary) == (6, (), False)
        assert slot.memory > 0
        assert not slot.cores_note

    def test_cpu_is_the_same_slot(self) -> None:
        assert discover("cpu", "h") == discover(None, "h")

    def test_slots_share_the_processors_without_overlap(self) -> None:
        slots = discover("cpu:2", "h")
        assert [slot.uuid for slot in slots] == ["cpu-h-0", "cpu-h-1"]
        assert [slot.cores for slot in slots] == [(0, 1, 2), (3, 6, 7)]
        assert [slot.threads for slot in slots] == [3, 3]

    def test_slots_that_do_not_divide_evenly_leave_processors_idle(self) -> None:
        assert [slot.cores for slot in discover("cpu:4", "h")] == [(0,), (1,), (2,), (3,)]
        assert discover("cpu:4", "h")[0].name == "cpu:0 (1 thread)"

    @pytest.mark.parametrize("wanted", [None, "cpu", "cpu:1"])
    def test_the_only_slot_has_a_helper_for_each_further_thread(self, wanted: str | None) -> None:
        slot, *helpers = discover(wanted, "h")
        assert not slot.helper
        assert [one.name for one in helpers] == [f"cpu helper {number} (1 thread)" for number in range(1, 6)]
        assert {(one.kind, one.threads, one.cores, one.auxiliary, one.helper) for one in helpers} == {
            ("cpu", 1, (), True, True)
        }
        assert len({one.uuid for one in (slot, *helpers)}) == 6

    def test_helpers_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        has(monkeypatch, range(64))
        assert sum(bool(one.helper) for one in discover("cpu", "h")) == 7

    @pytest.mark.parametrize("wanted", ["cpu:2", "cpu:6"])
    def test_several_slots_have_none(self, wanted: str) -> None:
        assert not any(slot.helper for slot in discover(wanted, "h"))

    @pytest.mark.parametrize(("quota", "threads"), [(1.0, 1), (0.5, 1), (1.5, 2), (4.0, 4), (9.0, 6)])
    def test_a_quota_limits_threads_and_helpers(
        self, monkeypatch: pytest.MonkeyPatch, quota: float, threads: int
    ) -> None:
        has(monkeypatch, CORES, quota)
        slot, *helpers = discover("cpu", "h")
        assert (slot.threads, len(helpers)) == (threads, threads - 1)
        assert slot.cores == ()
        assert ("quota" in (slot.cores_note or "")) == (quota < 6)

    def test_slots_share_a_quota_and_each_keeps_one_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        has(monkeypatch, CORES, 2.0)
        slots = discover("cpu:3", "h")
        assert [(slot.threads, slot.cores) for slot in slots] == [(1, (0, 1)), (1, (2, 3)), (1, (6, 7))]

    @pytest.mark.parametrize(("cores", "threads"), [(16, 16), (64, 40)])
    def test_others_only_take_from_threads_that_would_wait_for_each_other(
        self, monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
    ) -> None:
        has(monkeypatch, range(cores), busy=24.2)
        slot = discover(None, "h")[0]
        assert slot.threads == threads
        assert slot.cores_note == "other processes kept 24.2 cores busy at the start"

    @pytest.mark.parametrize(
        ("wanted", "why"),
        [
            ("cpu:0", "1 or more"),
            ("cpu:x", "1 or more"),
            ("cpu:-1", "1 or more"),
            ("cpu:7", "this host lends 6 processors; give cpu:6 or less"),
            ("", "'' is not a device"),
            ("gpu", "'gpu' is not a device"),
            ("cpu,", "'' is not a device"),
            ("cpu,cpu", "named twice"),
            ("cpu,cpu:2", "named twice"),
            ("cuda:0", "GPUs here: none .* give --devices cpu"),
            ("GPU-aaaa", "no such GPU"),
        ],
    )
    def test_what_is_not_there_is_refused(self, wanted: str, why: str) -> None:
        with pytest.raises(DeviceError, match=why) as caught:
            discover(wanted, "h")
        assert str(caught.value).startswith("--devices")


@pytest.mark.usefixtures("nvml")
class TestWithGpus:
    def test_all_gpus_and_one_auxiliary_cpu_slot(self, nvml: FakeNvml) -> None:
        first, second, spare = main_devices(None)
        assert (first.uuid, first.kind, first.name) == ("GPU-aaaa", "cuda", "NVIDIA Fake (cuda:0)")
        assert (first.memory, first.capability, first.threads) == (80 << 30, (9, 0), 3)
        assert (second.uuid, second.name, second.capability) == ("GPU-bbbb", "NVIDIA Old (cuda:1)", (7, 5))
        assert (spare.kind, spare.auxiliary) == ("cpu", True)
        assert spare.threads == 3, "one is left to each GPU's worker, and one to the coordinator"
        assert nvml.opened == 1, "it stays open: a GPU that nobody uses would have to be woken for each look"

    @pytest.mark.parametrize("wanted", ["cuda:1", "GPU-bbbb", "gpu-BBBB", " cuda:1 "])
    def test_a_gpu_by_index_or_uuid(self, wanted: str) -> None:
        assert [device.uuid for device in main_devices(wanted)] == ["GPU-bbbb", "cpu-h-0"]

    def test_gpus_in_the_order_of_the_request(self) -> None:
        assert [device.uuid for device in discover("cuda:1,cuda:0", "h")][:2] == ["GPU-bbbb", "GPU-aaaa"]

    def test_a_gpu_beside_a_cpu_slot_needs_no_auxiliary_one(self) -> None:
        devices = main_devices("cuda:0,cpu")
        assert [(device.kind, device.auxiliary) for device in devices] == [("cuda", False), ("cpu", False)]

    def test_the_auxiliary_slot_has_helpers_on_what_the_gpus_leave(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert sum(bool(device.helper) for device in discover(None, "h")) == 2
        assert sum(bool(device.helper) for device in discover("cuda:0", "h")) == 3
        has(monkeypatch, range(2))
        assert [(device.kind, device.threads) for device in discover(None, "h")] == [
            ("cuda", 1),
            ("cuda", 1),
            ("cpu", 1),
        ]

    def test_cpu_alone_offers_no_gpu(self) -> None:
        assert [device.kind for device in main_devices("cpu")] == ["cpu"]

    @pytest.mark.parametrize("wanted", ["cuda:2", "GPU-cccc", "MIG-aaaa"])
    def test_a_missing_gpu_is_refused_and_those_here_named(self, wanted: str) -> None:
        with pytest.raises(DeviceError, match=r"no such GPU\. GPUs here: NVIDIA Fake \(cuda:0\) GPU-aaaa, NVIDIA Old"):
            discover(wanted, "h")

    def test_one_gpu_twice_is_refused(self) -> None:
        with pytest.raises(DeviceError, match="named twice"):
            discover("cuda:0,GPU-aaaa", "h")

    def test_index_1_is_not_index_10(self, nvml: FakeNvml) -> None:
        nvml.gpus = [FakeGpu(f"GPU-{number}") for number in range(11)]
        assert discover("cuda:1", "h")[0].uuid == "GPU-1"
        assert discover("cuda:10", "h")[0].uuid == "GPU-10"

    @pytest.mark.parametrize(
        ("visible", "uuids"),
        [
            ("0", ["GPU-aaaa"]),
            ("1", ["GPU-bbbb"]),
            ("1,0", ["GPU-aaaa", "GPU-bbbb"]),
            ("GPU-bbbb", ["GPU-bbbb"]),
            ("GPU-b", ["GPU-bbbb"]),
            (" 0 , 1 ", ["GPU-aaaa", "GPU-bbbb"]),
        ],
    )
    def test_a_scheduler_lends_some(self, monkeypatch: pytest.MonkeyPatch, visible: str, uuids: list[str]) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [device.uuid for device in discover(None, "h") if device.kind == "cuda"] == uuids

    @pytest.mark.parametrize("visible", ["", "-1", "7", "NoDevFiles"])
    def test_a_scheduler_lends_none(self, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [(device.kind, device.auxiliary) for device in main_devices(None)] == [("cpu", False)]
        with pytest.raises(DeviceError, match="no such GPU"):
            discover("cuda:0", "h")


class TestMigSlices:
    @pytest.fixture(autouse=True)
    def sliced(self, nvml: FakeNvml) -> None:
        nvml.gpus[0].slices = [FakeGpu("MIG-1111", memory=10 << 30), FakeGpu("MIG-2222", memory=20 << 30)]

    def test_slices_stand_for_their_gpu(self) -> None:
        devices = [device for device in discover(None, "h") if device.kind == "cuda"]
        assert [device.uuid for device in devices] == ["MIG-1111", "MIG-2222", "GPU-bbbb"]
        assert devices[1].name == "NVIDIA Fake (cuda:0) slice 1"
        assert devices[1].memory == 20 << 30
        assert devices[1].capability == (9, 0)

    def test_a_slice_by_uuid(self) -> None:
        assert discover("mig-2222", "h")[0].uuid == "MIG-2222"

    def test_an_index_means_all_slices_of_the_gpu(self) -> None:
        assert [device.uuid for device in discover("cuda:0", "h")][:2] == ["MIG-1111", "MIG-2222"]

    def test_a_scheduler_lends_a_slice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2222")
        assert discover(None, "h")[0].uuid == "MIG-2222"
