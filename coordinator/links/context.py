"""What the loop and the links share: the pool, the runs, the hosts, the work link, and the queue of events."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import zmq

from ...protocol.wire.devices import Device
from ...protocol.wire.work import worker_identity
from ..background import Background
from ..core.events import Event
from ..core.pool import Pool
from ..core.state import Fleet, WorkerSlot
from ..hosts.registry import Hosts
from ..runs.batch_runner import BatchRunner
from ..telemetry.notices import Notices


@dataclass(slots=True)
class Context:
    """One coordinator's parts. Events wait in `queue` until the loop hands them to the pool; `say` shows a line to people."""

    pool: Pool
    hosts: Hosts
    work: zmq.Socket[bytes]
    background: Background
    say: Callable[[str], None]
    notices: Notices = field(default_factory=Notices)
    runs: dict[str, BatchRunner] = field(default_factory=dict[str, BatchRunner])
    ending: dict[str, BatchRunner] = field(default_factory=dict[str, BatchRunner])
    """Finished runs whose processes and threads are still ending; their watchers get the end after that."""
    queue: deque[Event] = field(default_factory=deque[Event])
    released: set[str] = field(default_factory=set[str])
    """Workers whose last message has arrived and whose end is not reported yet."""

    @property
    def fleet(self) -> Fleet:
        """The pool's state, read-only."""
        return self.pool.fleet

    def devices(self) -> list[Device]:
        """Every device in the fleet."""
        return [slot.device for slot in self.fleet.devices.values()]

    def device_name(self, uuid: str) -> str:
        """A device's name for people; its UUID if it has left."""
        slot = self.fleet.devices.get(uuid)
        return slot.device.name if slot is not None else uuid

    def emit(self, event: Event) -> None:
        """Queue an event for the pool."""
        self.queue.append(event)

    def note(self, run: str, event: str, fields: Mapping[str, Any]) -> None:
        """Log an event of a run, or of the fleet if there is none; show it to people if it has a notice."""
        if run in self.runs:
            self.runs[run].telemetry.event(event, **fields)
        for text in self.notices.tell(event, fields, time.monotonic()):
            self.say(text)

    def send(self, worker: str, frames: list[Any]) -> None:
        """Send to a worker; if it is gone, its host reports that."""
        slot = self.fleet.workers.get(worker)
        if slot is not None:
            self.answer(worker_identity(worker, slot.epoch), frames)

    def answer(self, identity: bytes, frames: list[Any]) -> None:
        """Send to the peer with this identity on the work link."""
        with contextlib.suppress(zmq.ZMQError):
            self.work.send_multipart([identity, *frames], zmq.DONTWAIT, copy=False)

    def worker_of(self, identity: bytes) -> WorkerSlot | None:
        """The worker with this identity; None for one whose lease has ended, and for a stranger."""
        name = identity.decode(errors="replace").partition(".")[0]
        slot = self.fleet.workers.get(name)
        return slot if slot is not None and worker_identity(name, slot.epoch) == identity else None
