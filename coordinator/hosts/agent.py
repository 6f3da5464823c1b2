"""The host agent: offers a host's devices and spawns one pinned worker process per lease.

The coordinator has one in its own process; `embedfleet worker` runs one as a process that attaches from another host.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import psutil

from ...protocol.host.gpu_driver import GpuDriver
from ...protocol.host.pinning import pinning
from ...protocol.process.child import ChildProcess
from ...protocol.wire.devices import Device
from ...protocol.wire.hosts import SpawnRefusedMessage, WorkerDiedMessage, WorkerEnd, WorkerGone, WorkerSpawned
from ...protocol.wire.work import EXIT_STARVED
from .host_memory import HostMemory
from .lease import DeviceBusy, GpuLease
from .xid import hardware_fault

HUNG = "the NVIDIA driver does not answer for its GPU"

HostReport = WorkerSpawned | WorkerDiedMessage | WorkerGone | SpawnRefusedMessage


@dataclass(slots=True)
class _Worker:
    process: ChildProcess
    lease: GpuLease
    ended: float = 0.0
    end: WorkerEnd = field(default_factory=lambda: WorkerEnd(0, ""))
    starved: str = ""
    """Why the host's memory caused its end; empty: it did not."""
    killed: bool = False
    """By this agent."""
    xids: list[int] = field(default_factory=list[int])
    """XIDs that the driver reported for its device while it worked."""


class HostAgent:
    """Starts, watches and reaps workers. Call from one long-lived thread: the children's death signal follows it."""

    def __init__(self, host: str, devices: tuple[Device, ...], endpoint: str, memory: HostMemory | None = None) -> None:
        self.host, self.devices, self._endpoint = host, devices, endpoint
        self._by_uuid = {device.uuid: device for device in devices}
        self._leases: dict[str, GpuLease] = {}
        self._drivers = {device.uuid: GpuDriver() for device in devices if device.kind == "cuda"}
        self._workers: dict[str, _Worker] = {}
        self._memory = memory or HostMemory()

    def spawn(self, worker: str, device: str, epoch: int) -> HostReport:
        """Start a worker pinned to the device."""
        try:
            lease = self._leases.get(device) or GpuLease(self._by_uuid[device], self._drivers.get(device))
        except DeviceBusy as error:
            return SpawnRefusedMessage(worker, str(error))
        except OSError as error:
            return WorkerGone(worker, WorkerEnd(1, f"the device's lock file cannot be used: {error}"), None, True)
        self._leases[device] = lease
        try:
            process = self._start(worker, lease, epoch)
        except OSError as error:
            self._leave(lease)
            return WorkerGone(worker, WorkerEnd(1, f"no process can be started: {error}"), None, True)
        lease.workers.add(worker)
        self._workers[worker] = _Worker(process, lease)
        return WorkerSpawned(worker, process.pid, lease.before)

    def _start(self, worker: str, lease: GpuLease, epoch: int) -> ChildProcess:
        target = lease.device
        arguments = [
            f"--endpoint={self._endpoint}",
            f"--worker={worker}",
            f"--epoch={epoch}",
            f"--kind={target.kind}",
            f"--uuid={target.uuid}",
            f"--threads={target.threads}",
            f"--cores={','.join(str(core) for core in target.cores)}",
        ]
        keep = [lease.lock.fd] if lease.lock is not None else []
        return ChildProcess("embedfleet.worker", arguments, environment=_environment(target), keep_fds=keep)

    def _leave(self, lease: GpuLease) -> None:
        """Release the device if no worker holds it."""
        if not lease.workers and self._leases.pop(lease.device.uuid, None) is not None:
            lease.release()

    def kill(self, worker: str) -> None:
        """Kill a worker."""
        running = self._workers.get(worker)
        if running is not None and not running.ended:
            running.killed = True
            running.process.kill()

    def pidfds(self) -> list[int]:
        """File descriptors that become readable when a worker ends."""
        return [one.process.pidfd for one in self._workers.values() if not one.ended and one.process.pidfd is not None]

    @property
    def awaiting_release(self) -> bool:
        """Whether a device's memory is being watched after a worker's end: call `reap` again soon."""
        return any(one.ended for one in self._workers.values())

    def reap(self) -> Iterator[WorkerDiedMessage | WorkerGone]:
        """Yield WorkerDied when a worker fails, and WorkerGone once its device's memory is released.

        Kills the largest worker if the host's memory runs out.
        """
        self._spare_the_host(time.monotonic())
        self._look_at_faults()
        for name, one in list(self._workers.items()):
            news = not one.ended and self._has_ended(name, one)
            after = one.lease.memory_released(one.ended) if one.ended else None
            if after is not None:
                memory, released = after
                end = msgspec.structs.replace(one.end, fault=one.end.fault or HUNG) if one.lease.hung else one.end
                del self._workers[name]
                self._leave(one.lease)
                yield WorkerGone(name, end, memory, released)
            elif news and one.end.code != 0:
                yield WorkerDiedMessage(name, one.end)

    def _has_ended(self, name: str, one: _Worker) -> bool:
        code = one.process.exit_code()
        if code is None:
            return False
        one.ended = time.monotonic()
        if code == -signal.SIGKILL and not one.killed and self._memory.killed():
            one.starved = "the kernel killed it: the host had no memory left"
        self._look_at_faults(now=True)  # the driver may have reported one at the very end
        tail = one.process.tail() + "".join(f"\nXID {xid}" for xid in one.xids)
        if code == EXIT_STARVED:
            one.starved = tail.rsplit("\n", 1)[-1]
        one.end = WorkerEnd(code, tail, hardware_fault(one.xids), one.starved)
        one.process.close()
        one.lease.workers.discard(name)
        return True

    def _look_at_faults(self, *, now: bool = False) -> None:
        """Attribute XIDs to the workers now on that device. Kill them on a hardware fault: a kernel that they wait for may
        never return."""
        for lease in self._leases.values():
            xids = lease.faults(now=now)
            for one in self._workers.values() if xids else ():
                if one.lease is lease and not one.end.code:
                    one.xids += xids
                    if hardware_fault(xids) and not one.ended:
                        one.process.kill()

    def _spare_the_host(self, now: float) -> None:
        """Kill the largest worker before the kernel picks a process or the host swaps; its batches are computed again."""
        working = [one for one in self._workers.values() if not one.ended]
        reason = self._memory.short(now) if working else ""
        if reason:
            largest = max(working, key=lambda one: _resident(one.process.pid))
            largest.starved, largest.killed = reason, True
            largest.process.kill()

    def close(self) -> None:
        """Kill and reap every worker, release every lease."""
        for one in self._workers.values():
            one.process.kill()
        for one in self._workers.values():
            one.process.close()
        for lease in self._leases.values():
            lease.release()
        for driver in self._drivers.values():
            driver.close()
        self._workers.clear()
        self._leases.clear()


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):  # it has just ended, or no file can be opened
        return 0


def _environment(device: Device) -> dict[str, str]:
    return pinning(device.kind, device.uuid, device.threads)
