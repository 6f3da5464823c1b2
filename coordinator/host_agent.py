"""The host agent: offers a host's devices and spawns one pinned worker process per lease.

The coordinator has one of its own in its process; `embedfleet worker` runs one as a process that attaches from elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..protocol.devices import Device
from ..protocol.host_messages import SpawnRefused, WorkerGone, WorkerSpawned
from ..protocol.process import ChildProcess
from .leases import DeviceBusy, GpuLease

HostReport = WorkerSpawned | WorkerGone | SpawnRefused


@dataclass(slots=True)
class _Worker:
    process: ChildProcess
    lease: GpuLease
    ended: float = 0.0
    code: int = 0
    tail: str = ""


class HostAgent:
    """Starts, watches and reaps workers. Call from one long-lived thread: the children's death signal follows it."""

    def __init__(self, host: str, devices: tuple[Device, ...], endpoint: str) -> None:
        self.host, self.devices, self._endpoint = host, devices, endpoint
        self._by_uuid = {device.uuid: device for device in devices}
        self._leases: dict[str, GpuLease] = {}
        self._workers: dict[str, _Worker] = {}

    def spawn(self, worker: str, device: str, epoch: int) -> HostReport:
        """Start a worker pinned to the device."""
        try:
            lease = self._leases.get(device) or GpuLease(self._by_uuid[device])
        except DeviceBusy as error:
            return SpawnRefused(worker, str(error))
        except OSError as error:
            return WorkerGone(worker, 1, f"the device's lock file cannot be used: {error}", None, True)
        self._leases[device] = lease
        try:
            process = self._start(worker, lease, epoch)
        except OSError as error:
            self._leave(lease)
            return WorkerGone(worker, 1, f"no process can be started: {error}", None, True)
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
        """Give the device up when nobody works on it."""
        if not lease.workers and self._leases.pop(lease.device.uuid, None) is not None:
            lease.release()

    def kill(self, worker: str) -> None:
        """End a worker now."""
        found = self._workers.get(worker)
        if found is not None and not found.ended:
            found.process.kill()

    def pidfds(self) -> list[int]:
        """File descriptors that become readable when a worker ends."""
        return [one.process.pidfd for one in self._workers.values() if not one.ended and one.process.pidfd is not None]

    @property
    def settling(self) -> bool:
        """Whether a device's memory is being watched after its worker ended: call `reap` again soon."""
        return any(one.ended for one in self._workers.values())

    def reap(self) -> Iterator[WorkerGone]:
        """Reports of the workers that have ended and whose device has settled."""
        for name, one in list(self._workers.items()):
            if not one.ended:
                code = one.process.exit_code()
                if code is None:
                    continue
                one.ended, one.code, one.tail = time.monotonic(), code, one.process.tail()
                one.process.close()
                one.lease.workers.discard(name)
            settled = one.lease.settled(one.ended)
            if settled is None:
                continue
            memory, released = settled
            del self._workers[name]
            self._leave(one.lease)
            yield WorkerGone(name, one.code, one.tail, memory, released)

    def close(self) -> None:
        """Kill and reap every worker, release every lease."""
        for one in self._workers.values():
            one.process.kill()
        for one in self._workers.values():
            one.process.close()
        for lease in self._leases.values():
            lease.release()
        self._workers.clear()
        self._leases.clear()


def _environment(device: Device) -> dict[str, str]:
    """Pinning, and one cache of the hub for all workers."""
    threads = str(device.threads)
    variables = {
        "CUDA_VISIBLE_DEVICES": device.uuid if device.kind == "cuda" else "",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
    }
    home = os.environ.get("HF_HOME") or os.path.expanduser("~/.cache/huggingface")
    variables["HF_HOME"] = home
    variables["HF_HUB_CACHE"] = os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")
    return variables
