"""The actors of a run, by a stand-in for Ray that answers at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.ray.node_runner import ShardReport
from embedfleet.client.ray.node_slots import Lost, NodeSlots, Reported, Slot
from embedfleet.client.ray.nodes import Needs


class Unavailable(Exception):
    """As ActorUnavailableError."""


class Call:
    """A call to an actor, and its answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


def get(call: Call) -> Any:
    if isinstance(call.answer, Exception):
        raise call.answer
    return call.answer


def slots_of(start: Any, *polls: Any) -> NodeSlots:
    """An actor on node `n` that answers so."""
    answers = iter(polls)
    actor = SimpleNamespace(
        start=SimpleNamespace(remote=lambda *_: Call(start)),
        poll=SimpleNamespace(remote=lambda: Call(next(answers))),
    )
    ray = SimpleNamespace(
        wait=lambda calls, **_: (calls, []),
        get=get,
        kill=lambda _: None,
        util=SimpleNamespace(remove_placement_group=lambda _: None),
        exceptions=SimpleNamespace(ActorUnavailableError=Unavailable, RayError=Unavailable),
    )
    return NodeSlots(ray, Needs("s", "o", False, False), [Slot("n", None, actor, None, is_up=True)])


def events(slots: NodeSlots, monkeypatch: pytest.MonkeyPatch, rounds: int) -> list[Any]:
    monkeypatch.setattr("embedfleet.client.ray.node_slots.REPORT_SECONDS", 0.0)
    slots.start("n", 5, 8, "", restart=False)
    return [event for _ in range(rounds) for event in slots.events(0.0)]


def test_a_shard_from_its_start_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slots = slots_of(None, ShardReport(5), ShardReport(5, code=0))
    assert events(slots, monkeypatch, 4) == [Reported("n", ShardReport(5)), Reported("n", ShardReport(5, code=0))]
    assert (slots.busy, slots.idle()) == (0, ["n"])


@pytest.mark.parametrize(
    "answers",
    [(Unavailable(), ShardReport(None)), (None, ShardReport(5), Unavailable(), ShardReport(None))],
    ids=["the start is lost", "the exit code is lost"],
)
def test_a_shard_of_which_its_actor_knows_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[Any, ...]
) -> None:
    slots = slots_of(*answers)
    last = events(slots, monkeypatch, len(answers))[-1]
    assert isinstance(last, Lost)
    assert (last.node, last.shard) == ("n", 5)
    assert (slots.busy, slots.up) == (0, 0)
