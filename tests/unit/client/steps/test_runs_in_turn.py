"""Runs of one session in turn: each is queued while the one before it is watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from embedfleet.client.steps.runs_in_turn import PlannedRun, RunsInTurn
from embedfleet.client.steps.session import SubmittedRun
from embedfleet.protocol.errors import Unreachable, UsageError
from embedfleet.protocol.spec.run_spec import RunSpec

SPEC = RunSpec(source="/c.jsonl", passes=())


class Recorded:
    """A session that writes down what is asked of it. Runs named in `refused` are; a signal comes while `interrupted` is
    watched."""

    def __init__(self, refused: Sequence[str] = (), interrupted: str = "") -> None:
        self.calls: list[str] = []
        self.received: list[int] = []
        self.lost = False
        self._refused, self._interrupted = refused, interrupted

    def submit(self, spec: RunSpec, out: Path, **_: Any) -> SubmittedRun:
        self.calls.append(f"submit {out.name}")
        if out.name in self._refused:
            raise UsageError(f"{out.name} is refused")
        return SubmittedRun(out.name, spec, out, "the same command")

    def watch(self, run: SubmittedRun, *, meanwhile: Callable[[], None]) -> Any:
        if run.name == self._interrupted:
            self.received.append(2)
        meanwhile()
        self.calls.append(f"end of {run.name}")
        return run.name

    def cancel(self, run: SubmittedRun) -> None:
        self.calls.append(f"cancel {run.name}")
        if self.lost:
            raise Unreachable("the coordinator is gone")


def turn(session: Recorded, names: str) -> RunsInTurn:
    planned = (PlannedRun(SPEC, Path("/runs") / name) for name in names)
    return RunsInTurn(cast(Any, session), lambda: next(planned, None))


def test_each_run_is_queued_before_the_one_before_it_ends() -> None:
    session = Recorded()
    assert list(turn(session, "abc").endings()) == ["a", "b", "c"]
    assert session.calls == ["submit a", "submit b", "end of a", "submit c", "end of b", "end of c"]


def test_a_run_may_become_known_while_another_is_watched() -> None:
    session, known = Recorded(), [PlannedRun(SPEC, Path("/runs/a"))]

    def upcoming() -> PlannedRun | None:
        return known.pop(0) if known else None

    endings = RunsInTurn(cast(Any, session), upcoming).endings()
    assert next(endings) == "a"  # pyright: ignore[reportGeneralTypeIssues]
    known.append(PlannedRun(SPEC, Path("/runs/b")))
    assert next(endings, None) is None, "nothing was known when the iteration went on"


def test_a_refused_run_is_reported_in_its_turn() -> None:
    session = Recorded(refused="b")
    first, second, third = turn(session, "abc").endings()
    assert (first, third) == ("a", "c")
    assert isinstance(second, UsageError)


def test_after_a_signal_the_queued_run_is_given_up() -> None:
    session = Recorded(interrupted="b")
    assert list(turn(session, "abcd").endings()) == ["a", "b"]
    assert session.calls[-2:] == ["cancel c", "end of b"]


@pytest.mark.parametrize("lost", [False, True])
def test_who_stops_gives_the_queued_run_up(lost: bool) -> None:
    """Also if the coordinator does not answer."""
    session = Recorded()
    with closing(turn(session, "abc").endings()) as endings:
        assert next(endings) == "a"  # pyright: ignore[reportGeneralTypeIssues]
        session.lost = lost
    assert session.calls == ["submit a", "submit b", "end of a", "cancel b"]
