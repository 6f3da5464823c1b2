"""Which run gets the reports on a worker that stays for the next one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.core.actions import SpawnWorker, StageWorker
from embedfleet.coordinator.core.events import WorkerExited
from embedfleet.coordinator.links.host_link import HostLink
from embedfleet.protocol.wire.hosts import WorkerEnd, WorkerGone

GONE = WorkerGone("w0", WorkerEnd(-11, ""), None, released=True)


class Link(HostLink):
    """With one worker, w0, that was started for pass 0 of the run r. `phases` are those of its lease, by run."""

    def __init__(self) -> None:
        self.phases: dict[str, list[tuple[str, int]]] = {"r": [], "next": []}
        self.reports: list[Any] = []
        self.emitted: list[Any] = []
        worker = SimpleNamespace(run="r", pass_index=0)
        slot = SimpleNamespace(device=SimpleNamespace(name="a GPU"))
        hosts = SimpleNamespace(spawn=lambda *_: (), local=None, receive=self._reports)
        context: Any = SimpleNamespace(
            fleet=SimpleNamespace(workers={"w0": worker}, devices={"g0": slot}),
            hosts=hosts,
            released=set(),
            runs={name: self._run(name) for name in self.phases},
            emit=self.emitted.append,
        )
        super().__init__(context)
        self.spawn(SpawnWorker("w0", "h", "g0", 1))

    def end(self) -> None:
        self.reports.append(GONE)
        self.gather(0.0)

    def _reports(self, _now: float) -> list[Any]:
        taken, self.reports = self.reports, []
        return taken

    def _run(self, name: str) -> Any:
        def lease(phase: str, _worker: str, _device: str, pass_index: int, _memory: Any, **_more: Any) -> None:
            self.phases[name].append((phase, pass_index))

        return SimpleNamespace(telemetry=SimpleNamespace(lease=lease))


@pytest.fixture
def link() -> Link:
    return Link()


def test_a_worker_that_stays_is_reported_to_its_new_run(link: Link) -> None:
    link.hand_over(StageWorker("w0", "next", 1))
    link.end()
    assert link.phases == {"r": [], "next": [("kept", 1), ("after", 1)]}


def test_a_worker_that_is_staged_for_the_first_time_is_not_kept(link: Link) -> None:
    link.hand_over(StageWorker("w0", "r", 0))
    assert link.phases == {"r": [], "next": []}


def test_a_worker_may_end_in_the_moment_in_which_it_is_staged(link: Link) -> None:
    """The report of its end waits for the pool, behind the event that stages it."""
    link.end()
    link.hand_over(StageWorker("w0", "next", 0))
    assert link.phases == {"r": [("after", 0)], "next": []}
    assert [type(one) for one in link.emitted] == [WorkerExited]
