"""What the loop and its parts share: the pool, the runs, the hosts, the work link, and the queue of events."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import zmq

from ..protocol.devices import Device
from .batch_runner import BatchRunner
from .events import Event
from .hosts import Hosts
from .pool import Pool
from .state import Fleet


@dataclass(slots=True)
class Context:
    """One coordinator's parts. Events wait in `queue` until the loop hands them to the pool."""

    pool: Pool
    hosts: Hosts
    work: zmq.Socket[bytes]
    runs: dict[str, BatchRunner] = field(default_factory=dict[str, BatchRunner])
    queue: deque[Event] = field(default_factory=deque[Event])
    released: set[str] = field(default_factory=set[str])
    """Workers that have said their last word and whose end is not reported yet."""

    @property
    def fleet(self) -> Fleet:
        """The pool's memory, to look at."""
        return self.pool.fleet

    def devices(self) -> list[Device]:
        """Every device in the fleet."""
        return [slot.device for slot in self.fleet.devices.values()]

    def device_name(self, uuid: str) -> str:
        """A device for people; its UUID if it has left."""
        slot = self.fleet.devices.get(uuid)
        return slot.device.name if slot is not None else uuid

    def emit(self, event: Event) -> None:
        """Queue an event for the pool."""
        self.queue.append(event)

    def send(self, worker: str, frames: list[Any]) -> None:
        """Send to a worker; one that is gone will be reported by its host."""
        with contextlib.suppress(zmq.ZMQError):
            self.work.send_multipart([worker.encode(), *frames], zmq.DONTWAIT, copy=False)
