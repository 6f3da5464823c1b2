"""A device as the protocol names it: a GPU or MIG slice by UUID, or a CPU slot with a number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ..spec.run_spec import Dtype


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a host offers. Bytes throughout."""

    uuid: str
    """Unique in the fleet: NVML's UUID, or `cpu-<host>-<slot>`."""
    kind: Literal["cuda", "cpu"]
    name: str
    """For people: `NVIDIA H100 (cuda:0)`, `cpu:0 (2 threads)`."""
    memory: int
    """Total memory: the GPU's, or the host's."""
    threads: int
    """Processor threads that the worker may use."""
    cores: tuple[int, ...] = ()
    """Processors that a CPU slot is pinned to; empty: not pinned."""
    capability: tuple[int, int] = (0, 0)
    """CUDA compute capability; (0, 0) on a CPU."""
    auxiliary: bool = False
    """A CPU slot beside GPUs, for the passes that need no GPU."""
    helper: bool | UnsetType = UNSET
    """A CPU slot of one thread beside one with all threads, for the passes without a model."""
    cores_note: str | UnsetType = UNSET
    """For people: what limits a CPU slot's threads, and what other processes took of its cores at the start."""


class MemorySample(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Memory at one moment of a lease, in bytes: the GPU's, or for a CPU slot the host's and the worker's own."""

    phase: str
    """`before`, `hydrated`, `peak` or `after`."""
    used: int
    total: int
    source: str
    """`nvml` (the GPU), `torch` (reserved by the worker), `rss` (the worker's resident memory) or `host` (in use there)."""


class PerformanceSample(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Load of a worker and its device at one moment. None: the device does not report it."""

    resident_bytes: int
    cpu_percent: float | None = None
    """Percent of one core used by the worker since the last sample; None if that was less than 0.2 s ago."""
    gpu_percent: float | None = None
    gpu_bytes: int | None = None
    """In use on the GPU, other tenants included."""
    gpu_celsius: float | None = None
    gpu_watts: float | None = None
    reserved_bytes: int | None = None
    """The most that torch has reserved on the GPU for the worker so far."""


def common_dtype(devices: Sequence[Device]) -> Dtype:
    """The dtype of `auto` that suits all of these devices: float32 with a CPU among them, else bfloat16, or float16 for GPUs
    before Ampere. Auxiliary slots do not count."""
    working = [device for device in devices if not device.auxiliary]
    if not working or any(device.kind == "cpu" for device in working):
        return "float32"
    return "bfloat16" if all(device.capability >= (8, 0) for device in working) else "float16"
