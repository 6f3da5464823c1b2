"""A run's models are looked at before anything of it begins: what is refused ends it, or gives way to a fallback."""

from __future__ import annotations

import pytest
from embedfleet.coordinator.core.actions import (
    Action,
    CloseRun,
    OpenRun,
    RunOver,
    SpawnWorker,
    StartExporter,
    StartIntake,
)
from embedfleet.coordinator.core.events import (
    ExporterLost,
    IntakeDone,
    ModelsChecked,
    PassPlan,
    RefusedModel,
    RunCancelled,
    RunFailed,
    RunOpened,
    RunSubmitted,
    SegmentSpooled,
)
from embedfleet.coordinator.core.state import RunStatus

from ....pool_driver import Driver, gpu

WHY = "no such model"


def submitted(*passes: PassPlan) -> Driver:
    driver = Driver(gpu("g"))
    assert driver.tell(RunSubmitted("r", passes, unchecked=True)) == [StartExporter("r")]
    return driver


def refused(driver: Driver, *numbers: int, run: str = "r") -> list[Action]:
    return driver.tell(ModelsChecked(run, tuple(RefusedModel(one, "ModelError", f"{WHY} {one}") for one in numbers)))


def spawned(actions: list[Action]) -> list[str]:
    return [one.worker for one in actions if isinstance(one, SpawnWorker)]


def test_nothing_happens_before_the_models_are_looked_at() -> None:
    driver = submitted(PassPlan("v"))
    assert driver.tick(1000.0) == []
    assert refused(driver) == [OpenRun("r")]
    opened, spawn = driver.tell(RunOpened("r", (frozenset(),)))
    assert opened == StartIntake("r")
    assert isinstance(spawn, SpawnWorker)


def test_a_refused_model_ends_the_run_unopened_and_the_next_one_begins() -> None:
    driver = submitted(PassPlan("v"))
    driver.tell(RunSubmitted("next", (PassPlan("v"),)))
    over, opened = refused(driver, 0)
    assert over == RunOver("r", "failed", "ModelError", f"{WHY} 0")
    assert opened == OpenRun("next")
    assert not driver.pool.fleet.workers


def test_a_run_in_the_queue_ends_there() -> None:
    driver = Driver(gpu("g"))
    driver.run(PassPlan("v"))
    driver.tell(RunSubmitted("second", (PassPlan("v"),), unchecked=True))
    assert refused(driver, 0, run="second") == [RunOver("second", "failed", "ModelError", f"{WHY} 0")]
    driver.tell(RunSubmitted("third", (PassPlan("v"),), unchecked=True))
    assert refused(driver, run="third") == []
    assert list(driver.pool.fleet.runs) == ["r", "third"]


def test_the_status_for_people_says_where_the_run_stands_and_not_that_it_is_checked() -> None:
    driver = submitted(PassPlan("v"))
    driver.tell(RunSubmitted("second", (PassPlan("v"),), unchecked=True))
    fleet = driver.pool.fleet
    assert {one.status for one in fleet.runs.values()} == {RunStatus.CHECKING}
    shown = [fleet.shown_status(fleet.runs[run]).value for run in ("r", "second")]
    assert shown == ["opening", "queued"]
    refused(driver)
    refused(driver, run="second")
    assert [fleet.runs[run].status for run in ("r", "second")] == [RunStatus.OPENING, RunStatus.QUEUED]
    driver.tell(RunOpened("r", (frozenset(),)))
    assert fleet.shown_status(fleet.runs["r"]) is RunStatus.RUNNING


def test_a_run_that_was_checked_in_the_queue_is_opened_at_once_and_another_has_its_exporter_started() -> None:
    driver = Driver(gpu("g"))
    for run in ("first", "second", "third"):
        driver.tell(RunSubmitted(run, (PassPlan("v"),), unchecked=True))
    assert refused(driver, run="second") == []
    assert refused(driver, 0, run="first")[1:] == [OpenRun("second")]
    assert driver.tell(ExporterLost("third", "nobody's")) == []
    driver.tell(RunFailed("second", "DirectoryRefused", "locked"))
    assert driver.tell(ExporterLost("second", "exit 2"))[1:] == [StartExporter("third")]


def test_all_that_are_refused_are_named_once_each() -> None:
    driver = submitted(PassPlan("a"), PassPlan("b", fallback=True), PassPlan("c"))
    (over,) = refused(driver, 0, 1, 2)
    assert isinstance(over, RunOver)
    assert over.error == f"{WHY} 0; {WHY} 1; {WHY} 2"
    driver = submitted(PassPlan("a"), PassPlan("b"))
    same = tuple(RefusedModel(number, "ModelError", WHY) for number in (0, 1))
    assert driver.tell(ModelsChecked("r", same)) == [RunOver("r", "failed", "ModelError", WHY)]


@pytest.mark.parametrize("event", [RunCancelled("r", "enough"), RunFailed("r", "RunFailed", "no process")])
def test_what_ends_meanwhile_does_not_wait(event: RunCancelled | RunFailed) -> None:
    driver = submitted(PassPlan("v"))
    (over,) = driver.tell(event)
    assert isinstance(over, RunOver)
    assert refused(driver, 0) == []


def test_a_lost_exporter_is_replaced_and_waits_as_the_first_one_did() -> None:
    driver = submitted(PassPlan("v"))
    assert driver.tell(ExporterLost("r", "killed")) == [StartExporter("r")]
    assert refused(driver) == [OpenRun("r")]
    assert driver.tell(ExporterLost("r", "killed")) == [OpenRun("r")]


def test_a_fallback_is_taken_and_no_device_is_leased_for_the_model() -> None:
    driver = submitted(PassPlan("v", fallback=True))
    assert refused(driver, 0) == [OpenRun("r")]
    driver.tell(RunOpened("r", (frozenset(),)))
    out = driver.tell(SegmentSpooled("r", 0, 5)) + driver.tell(IntakeDone("r")) + driver.tick(100.0)
    assert not spawned(out)
    assert driver.noted("pass_given_up") == [{"vector": "v", "reason": f"{WHY} 0"}]


def test_no_model_is_leased_for_while_it_is_open_whether_a_fallback_will_do() -> None:
    driver = submitted(PassPlan("a"), PassPlan("b", fallback=True))
    refused(driver, 1)
    driver.tell(RunOpened("r", (frozenset(), frozenset())))
    out = driver.tell(SegmentSpooled("r", 0, 5, has_weights=False)) + driver.tick(100.0)
    assert not spawned(out)
    assert spawned(driver.tell(SegmentSpooled("r", 1, 5)))  # a chunk with weights of its own
    driver = submitted(PassPlan("a"), PassPlan("b", fallback=True))
    refused(driver, 1)
    driver.tell(RunOpened("r", (frozenset(), frozenset())))
    driver.tell(SegmentSpooled("r", 0, 5, has_weights=False))
    out = driver.tell(IntakeDone("r"))
    assert not spawned(out)
    (closed,) = [one for one in out if isinstance(one, CloseRun)]
    assert (closed.status, closed.kind) == ("failed", "ModelError")
    assert closed.error.startswith(f"{WHY} 1; and no chunk has")


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    driver = Driver(gpu("g"))
    driver.run(PassPlan("v"))
    assert refused(driver, 0) == []
    assert refused(driver, 0, run="gone") == []
    assert driver.passes()[0].broken is None


def test_a_model_of_a_later_run_of_the_command_ends_this_one() -> None:
    driver = submitted(PassPlan("v"), PassPlan("s", fallback=True))
    later = RefusedModel(None, "ModelError", "no such reranker")
    (over,) = driver.tell(ModelsChecked("r", (RefusedModel(1, "ModelError", WHY), later)))
    assert over == RunOver("r", "failed", "ModelError", f"{WHY}; no such reranker")
