"""The driver of a run on Ray, by a stand-in for the actors: what a shard is started with after it was lost, or refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.ray import driver, shard_board
from embedfleet.client.ray.driver import RayDriver, ShardsRun
from embedfleet.client.ray.node_runner import ShardReport
from embedfleet.client.ray.node_slots import Lost, Reported, SlotEvent
from embedfleet.client.ray.nodes import Needs
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.run_directory.lock_holder import WRITING

GONE = Lost("n", 0, "gone")
WORKS = Reported("n", ShardReport(0, progress={"passes": [{"rows_done": 7}]}))
DONE = Reported("n", ShardReport(0, code=0))
BUSY = Reported("n", ShardReport(0, error=f"--out o: {WRITING}", code=2))
REFUSED = Reported("n", ShardReport(0, error="--out o: no space left", code=2))


class Slots:
    """One actor, to which the next of `attempts` happens whenever it gets the shard. `restarts`: what it was started with."""

    busy = coming = 0
    up = 1

    def __init__(self, attempts: Sequence[Sequence[SlotEvent]]) -> None:
        self._attempts, self._now = list(attempts), list[SlotEvent]()
        self.restarts: list[bool] = []

    def idle(self) -> list[str]:
        return ["n"]

    def start(self, *_: Any, restart: bool) -> None:
        self.restarts.append(restart)
        self._now = list(self._attempts.pop(0))

    def events(self, _: float) -> list[SlotEvent]:
        found, self._now = self._now, []
        return found

    def nothing(self, *_: Any, **__: Any) -> None: ...

    drop_others = cover = wish = close = stop = nothing


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_board, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(shard_board, "WRITING_PAUSE_SECONDS", 0.0)


class Finished:
    """Shards of one row. `seen`: which are done, at one look after another."""

    def __init__(self, *seen: Collection[int]) -> None:
        self._seen = list(seen)

    def among(self, shards: Collection[int]) -> dict[int, int]:
        seen = self._seen.pop(0) if self._seen else ()
        return {one: 1 for one in shards if one in seen}

    def await_all(self, *_: Any) -> None: ...


def run(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    *attempts: Sequence[SlotEvent],
    restart: bool = True,
    done: Sequence[Collection[int]] = (),
) -> list[bool]:
    """Run one shard; for each attempt, whether it had --restart. `done`: see `Finished`."""
    slots = Slots(attempts)
    monkeypatch.setattr(driver, "NodeSlots", lambda *_: slots)
    needs = Needs("s", str(out), gpus=False, real=False)
    watch: Any = SimpleNamespace(needs=needs, look=list, name=str, close=lambda: None)
    shards = ShardsRun(
        count=1, out=str(out), finished=Finished(*done), lost_last=False, config="", restart=restart, grace=1.0
    )
    RayDriver(None, shards, watch, [], lambda: False).run()
    return slots.restarts


def test_restart_is_repeated_until_the_shard_has_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = run(monkeypatch, tmp_path, [GONE], [BUSY], [REFUSED], [WORKS, GONE], [DONE])
    assert found == [True, True, True, True, False]


def test_a_folder_that_is_written_to_costs_no_attempt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(run(monkeypatch, tmp_path, *[[BUSY]] * 20, [DONE])) == 21


def test_one_refusal_is_tried_again_and_a_second_shard_with_it_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert len(run(monkeypatch, tmp_path, [REFUSED], [REFUSED], [DONE])) == 3
    elsewhere = Reported("other", REFUSED.report)
    with pytest.raises(UsageError, match="shard 0/1 on other: --out o: no space left"):
        run(monkeypatch, tmp_path, [REFUSED], [elsewhere])


def test_a_shard_that_was_done_before_its_node_was_lost_is_not_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nothing: list[int] = []
    assert run(monkeypatch, tmp_path, [GONE], restart=False, done=[nothing, [0]]) == [False]
    assert run(monkeypatch, tmp_path, [GONE], [WORKS, GONE], restart=True, done=[[0]]) == [True, True], (
        "what stands there before the shard has begun is what --restart removes"
    )


def test_a_store_that_does_not_answer_for_a_while_costs_no_attempt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = (
        "--out s3://b/run: the store is too busy (503); run the same command again later, or with fewer nodes at once"
    )
    away = Reported("n", ShardReport(0, error=line, code=2))
    assert len(run(monkeypatch, tmp_path, *[[away]] * 20, [DONE])) == 21
