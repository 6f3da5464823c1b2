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


def slots_of(*polls: Any) -> NodeSlots:
    """An actor on node `n` that answers so when it is asked for reports."""
    answers = iter(polls)
    actor = SimpleNamespace(
        hand=SimpleNamespace(remote=lambda *_: None),
        poll=SimpleNamespace(remote=lambda: Call(next(answers))),
    )
    ray = SimpleNamespace(
        wait=lambda calls, **_: (calls, []),
        get=get,
        kill=lambda _: None,
        util=SimpleNamespace(remove_placement_group=lambda _: None),
        exceptions=SimpleNamespace(ActorUnavailableError=Unavailable, RayError=Unavailable),
    )
    job: Any = None
    return NodeSlots(ray, Needs("s", "o", False, False), job, [Slot("n", None, actor, None, is_up=True)])


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedfleet.client.ray.node_slots.REPORT_SECONDS", 0.0)


def events(slots: NodeSlots, rounds: int) -> list[Any]:
    return [event for _ in range(rounds) for event in slots.events(0.0)]


def test_a_shard_from_its_start_to_its_end() -> None:
    slots = slots_of((ShardReport(5),), (ShardReport(5, code=0),))
    slots.hand("n", 5, restart=False)
    assert (slots.busy, slots.idle(), slots.with_one()) == (1, [], ["n"])
    assert events(slots, 3) == [Reported("n", ShardReport(5)), Reported("n", ShardReport(5, code=0))]
    assert (slots.busy, slots.idle(), slots.with_one()) == (0, ["n"], [])


def test_two_shards_of_one_node_and_one_of_them_is_back() -> None:
    first, both = (ShardReport(5),), (ShardReport(5, code=0), ShardReport(6))
    slots = slots_of(first, both, (ShardReport(6, is_back=True),))
    slots.hand("n", 5, restart=False)

    def wait(calls: Any, **_: Any) -> Any:
        slots.hand("n", 6, restart=False)  # after the actor was asked: the answer says nothing of it
        slots.ray.wait = at_once
        return calls, []

    at_once, slots.ray.wait = slots.ray.wait, wait
    assert events(slots, 1) == [Reported("n", ShardReport(5))]
    assert (slots.idle(), slots.with_one()) == ([], [])
    assert events(slots, 1) == [Reported("n", one) for one in both]
    assert slots.with_one() == ["n"]
    assert events(slots, 1) == [Reported("n", ShardReport(6, is_back=True))]
    assert slots.idle() == ["n"]


@pytest.mark.parametrize(
    "answers",
    [(Unavailable(), ()), ((ShardReport(5), ShardReport(6)), Unavailable(), (ShardReport(6),))],
    ids=["the shards did not arrive", "the end of the first is lost"],
)
def test_shards_of_which_their_actor_knows_nothing_are_lost(answers: tuple[Any, ...]) -> None:
    slots = slots_of(*answers)
    slots.hand("n", 5, restart=False)
    slots.hand("n", 6, restart=False)
    last = events(slots, len(answers))[-1]
    assert isinstance(last, Lost)
    assert (last.node, last.shards) == ("n", (5, 6))
    assert (slots.busy, slots.up) == (0, 0)
