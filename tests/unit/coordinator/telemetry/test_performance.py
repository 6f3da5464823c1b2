"""Samples of workers and hosts, and what they come to."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from embedfleet.coordinator.telemetry import performance
from embedfleet.coordinator.telemetry.performance import PerformanceLog
from embedfleet.coordinator.telemetry.spread import EVENT_SECONDS
from embedfleet.protocol.wire.codec import Decoder, encode
from embedfleet.protocol.wire.devices import PerformanceSample
from embedfleet.protocol.wire.work import Alive
from embedfleet.worker.device import performance_monitor
from embedfleet.worker.device.gpu_device import GpuDevice
from embedfleet.worker.device.memory import OTHERS_SLACK, DeviceMemory, Pressure
from embedfleet.worker.device.performance_monitor import PerformanceMonitor

GIB = 1 << 30


class FakeNvml:
    """NVML of one GPU; what is in `silent` is not supported there."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *silent: str) -> None:
        self.silent = silent
        self.used = 3 * GIB

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return f"handle of {uuid}"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        self._asked("memory", handle)
        return SimpleNamespace(used=self.used, total=16 * GIB)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        self._asked("utilization", handle)
        return SimpleNamespace(gpu=87)

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        assert sensor == self.NVML_TEMPERATURE_GPU
        self._asked("temperature", handle)
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self._asked("power", handle)
        return 68_500

    def _asked(self, what: str, handle: str) -> None:
        assert handle == "handle of GPU-1"
        if what in self.silent:
            raise self.NVMLError(what)


def on_gpu(nvml: FakeNvml) -> DeviceMemory:
    memory = DeviceMemory("cpu", "")
    memory.gpu = GpuDevice("GPU-1", nvml)
    return memory


class TestMonitor:
    def test_a_gpu_is_sampled_with_all_that_it_tells(self) -> None:
        sample = PerformanceMonitor(on_gpu(FakeNvml())).sample()
        assert (sample.gpu_percent, sample.gpu_bytes) == (87.0, 3 * GIB)
        assert (sample.gpu_celsius, sample.gpu_watts) == (61.0, 68.5)
        assert sample.resident_bytes > 1_000_000

    @pytest.mark.parametrize("silent", ["utilization", "temperature", "power", "memory"])
    def test_what_a_device_does_not_tell_is_none(self, silent: str) -> None:
        sample = PerformanceMonitor(on_gpu(FakeNvml(silent))).sample()
        names = {
            "utilization": "gpu_percent",
            "temperature": "gpu_celsius",
            "power": "gpu_watts",
            "memory": "gpu_bytes",
        }
        assert {name for name in names.values() if getattr(sample, name) is None} == {names[silent]}

    def test_a_cpu_slot_has_no_gpu_figures(self) -> None:
        sample = PerformanceMonitor(DeviceMemory("cpu", "")).sample()
        assert sample.gpu_percent is sample.gpu_bytes is sample.gpu_celsius is sample.gpu_watts is None

    def test_the_processor_is_asked_only_over_a_time_that_tells_something(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [100.0]
        monkeypatch.setattr(performance_monitor, "time", SimpleNamespace(monotonic=lambda: clock[0]))
        process: Any = SimpleNamespace(cpu_percent=lambda interval: 150.0 if interval is None else 0.0)
        monitor = PerformanceMonitor(DeviceMemory("cpu", ""), process)
        assert monitor.sample().cpu_percent is None
        clock[0] += 1.0
        assert monitor.sample().cpu_percent == 150.0
        assert monitor.sample().cpu_percent is None

    def test_memory_of_the_device_comes_from_the_same_source(self) -> None:
        memory = on_gpu(FakeNvml())
        assert memory.pressure() == Pressure(3 / 16, crowded=False)
        assert memory.sample("hydrated").source == "nvml"
        assert memory.sample("hydrated").used == 3 * GIB


class TestPressure:
    def test_others_count_once_they_have_taken_much_and_little_is_left(self) -> None:
        nvml = FakeNvml()
        memory = on_gpu(nvml)
        memory.pressure()  # the mark
        nvml.used = 3 * GIB + OTHERS_SLACK
        assert not memory.pressure().crowded
        nvml.used = 15 * GIB
        assert not memory.pressure().crowded, "a sixteenth is left"
        nvml.used = 15 * GIB + (GIB >> 1)
        assert memory.pressure() == Pressure(15.5 / 16, crowded=True)

    def test_what_this_process_keeps_itself_is_not_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reserved, emptied = [0], list[bool]()
        cuda = SimpleNamespace(memory_reserved=lambda: reserved[0], empty_cache=lambda: emptied.append(True))
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        nvml = FakeNvml()
        memory = on_gpu(nvml)
        memory.pressure()
        nvml.used, reserved[0] = 16 * GIB - 1, 13 * GIB - 1
        assert not memory.pressure().crowded
        memory.give_back()
        assert emptied == [True]

    def test_what_torch_reserved_is_asked_for_once_it_is_surely_imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
        memory = on_gpu(FakeNvml())
        assert PerformanceMonitor(memory).sample().reserved_bytes is None
        cuda = SimpleNamespace(memory_reserved=lambda: 1, max_memory_reserved=lambda: 7)
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        memory.pressure()
        assert PerformanceMonitor(memory).sample().reserved_bytes == 7
        assert (memory.peak().used, memory.peak().source) == (7, "torch")

    def test_a_cpu_knows_none(self) -> None:
        memory = DeviceMemory("cpu", "")
        assert memory.reserved_peak() is None
        memory.give_back()
        assert memory.pressure() == Pressure(0.0, crowded=False)


def test_alive_carries_a_sample_and_is_read_without_one() -> None:
    sample = PerformanceSample(resident_bytes=5, gpu_watts=1.5)
    decoder: Decoder[Alive] = Decoder(Alive)
    assert decoder.decode(encode(Alive(1, 2, 3, sample))).performance == sample
    assert decoder.decode(encode(Alive(1, 2, 3))).performance is None


class TestLog:
    def test_each_measure_has_least_mean_and_most_by_pass_and_device(self) -> None:
        log = PerformanceLog(["a", "b"])
        for watts in (10.0, 20.0, 60.0):
            log.add(1, "gpu", "w0", PerformanceSample(resident_bytes=7, gpu_watts=watts), 0.0)
        log.add(1, "other", "w1", PerformanceSample(resident_bytes=9), 0.0)
        passes = msgspec.to_builtins(log.record())["passes"]
        assert set(passes) == {"b"}
        assert passes["b"]["gpu"]["gpu_watts"] == {"min": 10.0, "mean": 30.0, "max": 60.0}
        assert passes["b"]["gpu"]["samples"] == 3
        assert passes["b"]["other"].keys() == {"samples", "resident_bytes"}

    def test_an_event_is_due_once_in_a_while_for_each_worker(self) -> None:
        log = PerformanceLog(["a"])
        sample = PerformanceSample(resident_bytes=7)
        at = 1_000.0
        first = log.add(0, "gpu", "w0", sample, at)
        assert first == {"worker": "w0", "device": "gpu", "vector": "a", "resident_bytes": 7}
        assert log.add(0, "gpu", "w1", sample, at + 1) is not None
        assert log.add(0, "gpu", "w0", sample, at + EVENT_SECONDS - 0.1) is None
        assert log.add(0, "gpu", "w0", sample, at + EVENT_SECONDS) is not None

    def test_peaks_of_a_worker_are_told_when_it_is_forgotten(self) -> None:
        log = PerformanceLog(["a", "b"])
        for used in (5, 9, 7):
            log.add(0, "gpu", "w0", PerformanceSample(resident_bytes=used, gpu_bytes=10 * used), 0.0)
        assert log.forget("w0") == {"resident_bytes": 9, "gpu_bytes": 90}
        assert log.forget("w0") == {}

    def test_the_host_is_sampled_once_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = SimpleNamespace(
            cpu_percent=lambda _interval: 50.0, virtual_memory=lambda: SimpleNamespace(available=8 * GIB)
        )
        monkeypatch.setattr(performance, "psutil", fake)
        log = PerformanceLog(["a"])
        assert log.look(100.0) == {"host": "coordinator", "cpu_percent": 50.0, "available_bytes": 8 * GIB}
        assert log.look(100.5) is None
        assert log.look(101.0) is None  # sampled, but no event is due
        assert log.record().host["samples"] == 2

    def test_memory_is_bounded_by_passes_and_devices(self) -> None:
        log = PerformanceLog(["a"])
        for turn in range(2_000):
            worker = f"w{turn}"
            log.add(0, "gpu", worker, PerformanceSample(resident_bytes=turn), float(turn))
            log.forget(worker)
        assert len(log.record().passes["a"]) == 1
        assert not log._workers
