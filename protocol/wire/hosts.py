"""The hosts link: host agent ↔ coordinator."""

from __future__ import annotations

import msgspec

from ..errors import describe_exit
from .devices import Device, MemorySample


class HostHello(msgspec.Struct, frozen=True, array_like=True, tag="host_hello"):
    """An agent offers its devices."""

    protocol: int
    build: str
    host: str
    devices: tuple[Device, ...]


class HostAlive(msgspec.Struct, frozen=True, array_like=True, tag="host_alive"):
    """Sent every second by the agent's loop."""

    host: str


class HostLeaving(msgspec.Struct, frozen=True, array_like=True, tag="host_leaving"):
    """Last message of an agent that stops; its workers end with it."""

    host: str


class WorkerSpawned(msgspec.Struct, frozen=True, array_like=True, tag="worker_spawned"):
    """The process is started. `memory` was sampled before."""

    worker: str
    pid: int
    memory: MemorySample | None


class WorkerEnd(msgspec.Struct, frozen=True, array_like=True):
    """How a worker's process ended."""

    code: int
    """Exit status; negative: the signal."""
    tail: str
    """The end of its standard error."""
    fault: str = ""
    """A hardware fault of the device; empty if none is known."""
    starved: str = ""
    """The reason if a lack of host memory ended it; otherwise empty."""

    @property
    def reason(self) -> str:
        """How the worker ended, in one line for a message."""
        if self.starved:
            return self.starved
        how = describe_exit(self.code)
        last = self.tail.rsplit("\n", 1)[-1].strip()
        return f"{how}: {last}" if last else how


class WorkerDiedMessage(msgspec.Struct, frozen=True, array_like=True, tag="worker_died"):
    """A worker's process has ended unexpectedly. WorkerGone follows after the memory check of its device."""

    worker: str
    end: WorkerEnd


class WorkerGone(msgspec.Struct, frozen=True, array_like=True, tag="worker_gone"):
    """A worker's process has ended or could not be started. `memory` was sampled afterwards."""

    worker: str
    end: WorkerEnd
    memory: MemorySample | None
    released: bool
    """Whether the memory is back to its level before the lease."""


class SpawnRefusedMessage(msgspec.Struct, frozen=True, array_like=True, tag="spawn_refused"):
    """The device cannot be leased now, for example because another run on this host has it."""

    worker: str
    reason: str


ToCoordinator = (
    HostHello | HostAlive | HostLeaving | WorkerSpawned | WorkerDiedMessage | WorkerGone | SpawnRefusedMessage
)


class HostWelcome(msgspec.Struct, frozen=True, array_like=True, tag="host_welcome"):
    """The agent is in the fleet. Sent again as the answer to each HostAlive."""

    protocol: int
    build: str


class HostRefused(msgspec.Struct, frozen=True, array_like=True, tag="host_refused"):
    message: str


class Spawn(msgspec.Struct, frozen=True, array_like=True, tag="spawn"):
    """Start a worker pinned to a device."""

    worker: str
    device: str
    epoch: int


class Kill(msgspec.Struct, frozen=True, array_like=True, tag="kill"):
    worker: str


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """The coordinator shuts down; the agent does too."""


ToHost = HostWelcome | HostRefused | Spawn | Kill | Goodbye
