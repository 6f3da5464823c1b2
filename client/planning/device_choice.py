"""The devices of a plan: those that a run would take here, or GPUs that need not be here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol.planning.gpus import Gpu, Gpus, gpu_table, kind_of
from ...protocol.wire.devices import Device


@dataclass(frozen=True, slots=True)
class PlannedDevices:
    """`names` has one for each device that computes models; `gpu` is their kind, if they are GPUs that the table
    knows; `here` says whether they are this host's."""

    names: tuple[str, ...]
    memory: int
    """Of the smallest of them, in bytes."""
    is_gpu: bool
    threads: int
    """Of all CPU slots."""
    gpu: Gpu | None = None
    here: bool = True
    half: bool = False
    """Whether `--dtype auto` is bfloat16 or float16 there."""

    @property
    def count(self) -> int:
        return len(self.names)


def named_gpus(gpus: Gpus) -> PlannedDevices:
    """The devices of `--gpus`: all have the same name."""
    names = (gpus.name,) * gpus.count
    return PlannedDevices(names, gpus.gpu.memory, is_gpu=True, threads=0, gpu=gpus.gpu, here=False, half=True)


def devices_here(devices: Sequence[Device]) -> PlannedDevices:
    """The devices that a run would take."""
    working = [one for one in devices if not one.auxiliary] or list(devices)
    kinds = {kind_of(one.name) for one in working}
    all_gpus = all(one.kind == "cuda" for one in working)
    kind = kinds.pop() if len(kinds) == 1 and all_gpus else None
    return PlannedDevices(
        names=tuple(one.name for one in working),
        memory=min((one.memory for one in working), default=0),
        is_gpu=any(one.kind == "cuda" for one in working),
        threads=sum(one.threads for one in working if one.kind == "cpu"),
        gpu=gpu_table()[kind] if kind is not None else None,
        half=all_gpus,
    )
