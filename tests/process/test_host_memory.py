"""A host whose memory runs out: one real worker ends, the largest, and its end is nobody's fault."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedfleet.coordinator.hosts import agent as host_agent
from embedfleet.coordinator.hosts.agent import HostAgent
from embedfleet.coordinator.hosts.host_memory import HostMemory
from embedfleet.protocol.wire.devices import Device
from embedfleet.protocol.wire.hosts import WorkerGone, WorkerSpawned
from embedfleet.protocol.wire.work import EXIT_STARVED

GIB = 1 << 30
DEVICES = tuple(
    Device(uuid=f"cpu-memory-{number}", name=f"cpu {number}", kind="cpu", memory=GIB, threads=1) for number in range(2)
)


class Memory(HostMemory):
    """The host's memory as the test has it: bytes that are left, and processes that the kernel has killed."""

    def __init__(self) -> None:
        self.left, self.kills = 8 * GIB, 0
        super().__init__(lambda: (self.left, 64 * GIB))

    def killed(self) -> bool:
        taken, self.kills = self.kills, 0
        return taken > 0


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def agent(folder: Path, memory: Memory) -> Iterator[HostAgent]:
    """With two devices; nobody answers its workers, who wait."""
    made = HostAgent("h", DEVICES, f"ipc://{folder}/work", memory)
    yield made
    made.close()


def spawned(agent: HostAgent, worker: str, device: Device) -> psutil.Process:
    report = agent.spawn(worker, device.uuid, 1)
    assert isinstance(report, WorkerSpawned), report
    return psutil.Process(report.pid)


def end_of(agent: HostAgent, waiting: Any, worker: str) -> WorkerGone:
    """The report of a worker's end, which has to be the first report that comes."""
    (gone,) = waiting.eventually(lambda: list(agent.reap()), what="the worker's end")
    assert isinstance(gone, WorkerGone)
    assert gone.worker == worker
    return gone


def test_the_largest_worker_is_ended_and_its_batch_is_innocent(
    agent: HostAgent, memory: Memory, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = spawned(agent, "w1", DEVICES[0]), spawned(agent, "w2", DEVICES[1])
    monkeypatch.setattr(host_agent, "_resident", {small.pid: 1, large.pid: 2}.__getitem__)
    assert list(agent.reap()) == []
    memory.left = GIB
    gone = end_of(agent, waiting, "w2")
    assert (gone.end.code, gone.released) == (-signal.SIGKILL, True)
    assert gone.end.starved == gone.end.reason == "the host's memory runs out: 1024 of 65536 MiB are left"
    waiting.all_gone([large], 1.0)
    assert small.is_running()
    assert list(agent.reap()) == [], "the next one has time, until it is seen what this one brought"


@pytest.mark.parametrize("kills", [0, 1])
def test_a_worker_that_the_kernel_took_for_want_of_memory_is_innocent(
    agent: HostAgent, memory: Memory, waiting: Any, kills: int
) -> None:
    """Only where the kernel says that it killed: another's SIGKILL may be the batch's fault."""
    worker = spawned(agent, "w1", DEVICES[0])
    memory.kills = kills
    worker.kill()
    end = end_of(agent, waiting, "w1").end
    assert end.starved == ("the kernel killed it: the host had no memory left" if kills else "")


def test_one_that_we_kill_meanwhile_is_not_the_kernels(agent: HostAgent, memory: Memory, waiting: Any) -> None:
    spawned(agent, "w1", DEVICES[0])
    memory.kills = 1
    agent.kill("w1")
    assert end_of(agent, waiting, "w1").end.starved == ""


def test_a_worker_whose_device_others_have_filled_is_innocent(
    agent: HostAgent, waiting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = f"import os, sys; print('the memory is taken', file=sys.stderr, flush=True); os._exit({EXIT_STARVED})"
    monkeypatch.setattr(host_agent, "ChildProcess", in_its_place(program))
    spawned(agent, "w1", DEVICES[0])
    end = end_of(agent, waiting, "w1").end
    assert (end.code, end.starved) == (EXIT_STARVED, "the memory is taken")


def in_its_place(program: str) -> Callable[..., Any]:
    """A ChildProcess that runs this program, whatever is asked for."""
    real = host_agent.ChildProcess

    def make(_module: str, _arguments: list[str], **options: Any) -> Any:
        return real("timeit", ["-n1", "-r1", program], **options)

    return make


def test_the_kernel_would_take_a_worker_first(agent: HostAgent, waiting: Any) -> None:
    worker = spawned(agent, "w1", DEVICES[0])
    score = Path(f"/proc/{worker.pid}/oom_score_adj")
    before = int(Path(f"/proc/{os.getpid()}/oom_score_adj").read_text())
    waiting.eventually(lambda: int(score.read_text()) == 900, what="the worker's own setting")
    assert int(Path(f"/proc/{os.getpid()}/oom_score_adj").read_text()) == before, "its own alone"
