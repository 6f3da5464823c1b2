"""Asynchronous copies between the host's memory and a device's.

The only module that uses streams, events and pinned memory of CUDA. On a CPU the same steps are taken, without anything to
wait for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ...protocol.wire.arrays import Array
from ..tokenizing.flat import Int32

SMALL_SHARE = 0.05
"""Share of a GPU's free memory: data that takes less may be placed there without further checks."""


class Event(Protocol):
    """A mark after the work that the device has been given so far."""

    def record(self) -> None: ...
    def synchronize(self) -> None:
        """Wait until the device has reached the mark. Returns at once if it was not recorded."""
        ...


class Passed:
    """An event for a CPU, where all work is done when a call returns."""

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


@dataclass(slots=True)
class Slot:
    """Host memory that the device reads from. `copied` marks the end of the last copy."""

    memory: torch.Tensor
    copied: Event


@dataclass(frozen=True, slots=True)
class Landing:
    """Tensors on their way to the host. `event` marks the end of their copies."""

    tensors: Mapping[str, torch.Tensor]
    event: Event

    def wait(self) -> dict[str, Array]:
        """The tensors as arrays, once they are there. Does not wait for work that the device was given later."""
        self.event.synchronize()
        return {name: one.numpy() for name, one in self.tensors.items()}


class Staging:
    """Copies to and from the device. Uploads go through a ring of `slots` places in pinned memory. Threads may share it."""

    def __init__(self, device: torch.device, slots: int) -> None:
        self.device = device
        self._is_cuda = device.type == "cuda"
        self._ring = deque(Slot(torch.empty(0, dtype=torch.int32), self._event()) for _ in range(slots))
        self._turn = threading.Lock()
        self._aside: torch.cuda.Stream | None = None

    def upload(self, parts: Sequence[Int32]) -> torch.Tensor:
        """The arrays one after the other, as an int32 tensor on the device, by one copy."""
        total = sum(map(len, parts))
        with self._turn:
            slot = self._ring[0]
            self._ring.rotate(-1)
            slot.copied.synchronize()
            if len(slot.memory) < total:
                slot.memory = torch.empty(total + total // 4, dtype=torch.int32, pin_memory=self._is_cuda)
            np.concatenate(parts, out=slot.memory[:total].numpy())
            whole = slot.memory[:total].to(self.device, non_blocking=True, copy=True)
            slot.copied.record()
        return whole

    def download(self, tensors: Mapping[str, torch.Tensor]) -> Landing:
        """Begin to copy tensors to the host: from a GPU, into pinned memory."""
        copies = {name: one.detach().to("cpu", non_blocking=True) for name, one in tensors.items()}
        return Landing(copies, self.mark())

    def mark(self) -> Event:
        """An event after all the work that the device has been given so far."""
        event = self._event()
        event.record()
        return event

    @contextmanager
    def behind(self, event: Event) -> Generator[None]:
        """Give the device work to do after `event`, beside work that it was given later. End by waiting for its result."""
        if not self._is_cuda:
            yield
            return
        if self._aside is None:
            self._aside = torch.cuda.Stream(self.device)
        assert isinstance(event, torch.cuda.Event), "made by `mark`"
        self._aside.wait_event(event)
        with torch.cuda.stream(self._aside):
            yield

    def place_beside(self, size: int) -> torch.device:
        """Where to place `size` more bytes: on the device if they are few there, otherwise in the host's memory."""
        if not self._is_cuda:
            return self.device
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.device if size < SMALL_SHARE * free else torch.device("cpu")

    def free(self) -> int:
        """Bytes of a GPU that a micro-batch could take; 0 on a CPU."""
        if not self._is_cuda:
            return 0
        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)

    def peak_of(self, step: Callable[[], object]) -> int:
        """The most bytes of a GPU that a step takes in addition to the memory in use before; 0 on a CPU."""
        if not self._is_cuda:
            step()
            return 0
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        step()
        return torch.cuda.max_memory_allocated(self.device) - before

    def give_back(self) -> None:
        """Return cached memory of the device that nothing uses."""
        if self._is_cuda:
            torch.cuda.empty_cache()

    def _event(self) -> Event:
        return torch.cuda.Event(blocking=True) if self._is_cuda else Passed()
