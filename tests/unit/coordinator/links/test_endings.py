"""A run's end is told once nothing of it is left, and at the latest when the coordinator closes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.core.actions import RunOver
from embedfleet.coordinator.links.endings import Endings

OVER = RunOver("r", "failed", "RunFailed", "why")


class Coordinator:
    """The parts that an end concerns; `waiting` is what the background has to do."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.waiting: list[Callable[[], None]] = []
        self.runner = SimpleNamespace(finish=self._finish)
        background = SimpleNamespace(end=lambda run: self.did.append(f"no notes about {run}"), post=self._post)
        self.context: Any = SimpleNamespace(
            runs={"r": self.runner},
            ending={},
            background=background,
            notices=SimpleNamespace(due=lambda _now, **_end: ["a count"]),
            say=self.did.append,
        )
        clients: Any = SimpleNamespace(tell_end=lambda _runner, action: self.did.append(f"told of {action.run}"))
        checks: Any = SimpleNamespace(end=lambda run: self.did.append(f"no check of {run}"))
        self.endings = Endings(self.context, clients, checks)

    def _finish(self) -> Callable[[], None]:
        self.did.append("stopped")
        return lambda: self.did.append("waited")

    def _post(self, _run: str, call: Callable[[], None], then: Callable[[Future[None]], None]) -> None:
        def answer() -> None:
            future: Future[None] = Future()
            future.set_result(call())
            then(future)

        self.waiting.append(answer)


STOPPED = ["no check of r", "no notes about r", "stopped"]
TOLD = ["told of r", "a count", "run r: failed: why"]


def test_a_run_is_told_of_once_it_was_waited_for() -> None:
    coordinator = Coordinator()
    coordinator.endings.begin(OVER)
    assert coordinator.did == STOPPED
    assert (list(coordinator.context.runs), list(coordinator.context.ending)) == ([], ["r"])
    coordinator.waiting.pop()()
    assert coordinator.did == [*STOPPED, "waited", *TOLD]
    assert coordinator.context.ending == {}


@pytest.mark.parametrize(("over", "begun"), [("r", ["second"]), ("second", []), ("third", [])])
def test_the_time_of_a_run_begins_when_it_gets_the_fleet(over: str, begun: list[str]) -> None:
    """And not again, when a run behind it is taken back."""
    coordinator, seen = Coordinator(), list[str]()
    for run in ("second", "third"):
        report = SimpleNamespace(begin=partial(seen.append, run))
        coordinator.context.runs[run] = SimpleNamespace(report=report, finish=coordinator.runner.finish)
    coordinator.endings.begin(RunOver(over, "interrupted"))
    assert seen == begun


@pytest.mark.parametrize("ended", [True, False])
def test_a_close_tells_of_those_that_are_left(ended: bool) -> None:
    coordinator = Coordinator()
    coordinator.endings.begin(OVER)
    if ended:
        coordinator.waiting.pop()()
    coordinator.endings.close()
    assert coordinator.did[-3:] == TOLD
    assert coordinator.did.count("told of r") == 1
