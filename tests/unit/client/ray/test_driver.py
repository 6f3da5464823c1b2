"""The driver of a run on Ray, by a stand-in for the actors: what a shard is started with after it was lost, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.client.ray import driver, shard_board
from embedfleet.client.ray.driver import RayDriver, ShardsRun
from embedfleet.client.ray.node.job import NodeJob
from embedfleet.client.ray.node_runner import ShardReport
from embedfleet.client.ray.node_slots import Lost, Reported, SlotEvent
from embedfleet.client.ray.nodes import Needs
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.run_directory.directory_lock import WRITING
from embedfleet.protocol.run_directory.records.shards import ShardsRecord
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.run_options import DEFAULTS

GONE = Lost("n", (0,), "gone")
WORKS = Reported("n", ShardReport(0, progress={"passes": [{"rows_done": 7}]}))
DONE = Reported("n", ShardReport(0, code=0))
BUSY = Reported("n", ShardReport(0, error=f"--out o: {WRITING}", code=2))
REFUSED = Reported("n", ShardReport(0, error="--out o: no space left", code=2))


def job_of(out: Path, count: int) -> NodeJob:
    spec = RunSpec(source="s", passes=(PassSpec(vector="v", kind="dense", model="fake:8"),))
    record = ShardsRecord(shards=count, spec=spec, files=())
    return NodeJob(record=record, out=str(out), options=DEFAULTS, devices=None, grace=1.0, otlp=None)


class Slots:
    """One actor, to which the next of `attempts` happens whenever it gets the shard. `restarts`: what it was started with."""

    busy = coming = 0
    up = 1

    def __init__(self, attempts: Sequence[Sequence[SlotEvent]]) -> None:
        self._attempts, self._now = list(attempts), list[SlotEvent]()
        self.restarts: list[bool] = []

    def idle(self) -> list[str]:
        return ["n"]

    def with_one(self) -> list[str]:
        return []

    def hand(self, *_: Any, restart: bool) -> None:
        self.restarts.append(restart)
        self._now = list(self._attempts.pop(0))

    def events(self, _: float) -> list[SlotEvent]:
        found, self._now = self._now, []
        return found

    def nothing(self, *_: Any, **__: Any) -> None: ...

    drop_others = cover = request_nodes = close = stop = finish = nothing


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
    shards = ShardsRun(job=job_of(out, 1), finished=Finished(*done), lost_last=False, restart=restart)
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


class TwoNodes:
    """Two actors that finish one shard after another, each in turn. `lost` and `back`: what happens instead, once, when a node
    works on that shard."""

    coming = 0
    up = 2

    def __init__(self, lost: int | None = None, back: int | None = None) -> None:
        self.shards: dict[str, list[int]] = {"a": [], "b": []}
        self.handed: list[tuple[str, int]] = []
        self._lost, self._back = lost, back

    @property
    def busy(self) -> int:
        return sum(bool(one) for one in self.shards.values())

    def idle(self) -> list[str]:
        return [node for node, one in self.shards.items() if not one]

    def with_one(self) -> list[str]:
        return [node for node, one in self.shards.items() if len(one) == 1]

    def hand(self, node: str, shard: int, **_: Any) -> None:
        self.shards[node].append(shard)
        self.handed.append((node, shard))

    def events(self, _: float) -> list[SlotEvent]:
        found: list[SlotEvent] = []
        for node, shards in self.shards.items():
            if not shards:
                continue
            if shards[0] == self._lost:
                self._lost = None
                found.append(Lost(node, tuple(shards), "gone"))
                shards.clear()
            elif shards[0] == self._back:
                self._back = None
                found += [
                    Reported(node, ShardReport(one, code=-9 if place == 0 else None, is_back=place > 0))
                    for place, one in enumerate(shards)
                ]
                shards.clear()
            else:
                found.append(Reported(node, ShardReport(shards.pop(0), code=0)))
        return found

    def nothing(self, *_: Any, **__: Any) -> None: ...

    drop_others = cover = request_nodes = close = stop = finish = nothing


def run_twelve(monkeypatch: pytest.MonkeyPatch, out: Path, slots: TwoNodes) -> TwoNodes:
    """Run twelve shards on them."""
    monkeypatch.setattr(driver, "NodeSlots", lambda *_: slots)
    needs = Needs("s", str(out), gpus=False, real=False)
    watch: Any = SimpleNamespace(needs=needs, look=list, name=str, close=lambda: None)
    shards = ShardsRun(job=job_of(out, 12), finished=Finished(), lost_last=False, restart=False)
    RayDriver(None, shards, watch, [], lambda: False).run()
    return slots


def test_a_node_gets_its_next_shard_ahead_until_as_few_wait_as_there_are_nodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slots = run_twelve(monkeypatch, tmp_path, TwoNodes())
    assert slots.handed[:4] == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]
    assert [shard for _, shard in slots.handed] == list(range(12))
    assert sorted(slots.handed[-2:]) == [("a", 10), ("b", 11)], "the last two are not behind one another"


def test_both_shards_of_a_lost_node_are_handed_out_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slots = run_twelve(monkeypatch, tmp_path, TwoNodes(lost=2))
    times = Counter(shard for _, shard in slots.handed)
    assert sum(times.values()) == 14
    assert times[2] == 2


def test_a_shard_behind_one_whose_process_died_is_not_blamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []
    fail, back = shard_board.ShardBoard.fail, list[int]()

    def note(board: shard_board.ShardBoard, shard: int, reason: str, now: float) -> bool:
        seen.append((shard, reason))
        return fail(board, shard, reason, now)

    put_back = shard_board.ShardBoard.put_back

    def note_back(board: shard_board.ShardBoard, shard: int) -> None:
        back.append(shard)
        put_back(board, shard)

    monkeypatch.setattr(shard_board.ShardBoard, "fail", note)
    monkeypatch.setattr(shard_board.ShardBoard, "put_back", note_back)
    slots = run_twelve(monkeypatch, tmp_path, TwoNodes(back=2))
    assert [shard for shard, _ in seen] == [2]
    assert "signal 9" in seen[0][1]
    assert len(back) == 1
    assert Counter(shard for _, shard in slots.handed)[back[0]] == 2
