"""Which shards wait, run, are done and are given up."""

from __future__ import annotations

from embedfleet.client.ray.shard_board import (
    MOST_FAILURES,
    MOST_LOSSES,
    PAUSE_SECONDS,
    WRITING_PAUSE_SECONDS,
    WRITING_SECONDS,
    ShardBoard,
)
from embedfleet.client.ray.shard_figures import ShardFigures


def test_shards_are_handed_out_in_order_and_counted() -> None:
    board = ShardBoard(5, [1, 3, 4])
    assert (board.done, board.waiting, board.running) == (2, 3, 0)
    assert [board.take("a", 0), board.take("b", 0)] == [1, 3]
    assert board.running == 2
    board.finish(3)
    board.finish(1)
    assert board.take("a", 0) == 4
    assert board.take("b", 0) is None
    assert not board.is_over
    board.finish(4)
    assert board.is_over
    assert board.done == 5


def test_a_shard_that_is_handed_ahead_waits_behind_another_and_comes_back_as_it_was() -> None:
    board = ShardBoard(3, [0, 1, 2])
    assert [board.take("a", 0), board.take("a", 0)] == [0, 1]
    assert (board.running, board.waiting, board.left) == (1, 1, 2)
    board.put_back(1)
    assert (board.running, board.waiting, board.left) == (1, 2, 2)
    assert board.take("b", 0) == 1
    assert board.is_first(1)


def test_the_shard_of_a_lost_node_goes_to_another_at_once() -> None:
    board = ShardBoard(3, [0, 1, 2])
    assert board.take("a", 0) == 0
    assert board.lose(0, "gone", 10)
    assert board.take("b", 10) == 0
    assert board.lose(0, "gone", 20)
    assert board.take("b", 20) == 1, "a shard that was lost twice waits a little"
    assert board.take("b", 20 + PAUSE_SECONDS) == 0


def test_in_object_storage_the_shard_of_a_lost_node_waits_for_its_lock_behind_the_others() -> None:
    board = ShardBoard(3, [0, 1, 2], lost_last=True)
    assert board.take("a", 0) == 0
    assert board.lose(0, "gone", 10)
    assert [board.take("b", 20), board.take("c", 20), board.take("d", 20)] == [1, 2, 0]


def test_a_shard_that_fails_again_and_again_is_given_up_and_the_others_go_on() -> None:
    board, now = ShardBoard(2, [0, 1]), 0.0
    for attempt in range(1, MOST_FAILURES + 1):
        now += 100
        assert board.take("a", now) == 0
        assert board.fail(0, f"error {attempt}", now) == (attempt < MOST_FAILURES)
    assert board.failed == {0: f"error {MOST_FAILURES}"}
    assert board.take("a", now) == 1
    board.finish(1)
    assert board.is_over


def test_a_shard_that_brings_nodes_down_is_given_up() -> None:
    board, now = ShardBoard(1, [0]), 0.0
    for attempt in range(1, MOST_LOSSES + 1):
        now += 100
        assert board.take("a", now) == 0
        assert board.lose(0, "gone", now) == (attempt < MOST_LOSSES)
    assert board.is_over
    assert 0 in board.failed


def test_a_shard_is_begun_once_it_works_and_not_when_it_is_handed_out() -> None:
    board = ShardBoard(1, [0])
    board.take("a", 0)
    board.lose(0, "gone before it began", 0)
    board.take("b", 0)
    board.wait(0, "another run is writing there", 10)
    board.take("b", 10 + WRITING_PAUSE_SECONDS)
    assert board.is_first(0), "--restart has removed nothing"
    board.begin(0)
    board.lose(0, "gone", 50)
    assert not board.is_first(0)


def test_a_folder_that_another_run_writes_to_costs_no_attempt_for_ten_minutes() -> None:
    board, now, attempts = ShardBoard(1, [0]), 0.0, 0
    while now < WRITING_SECONDS:
        assert board.take("a", now) == 0
        assert board.wait(0, "another run is writing there", now)
        assert board.take("a", now + WRITING_PAUSE_SECONDS - 1) is None
        now += WRITING_PAUSE_SECONDS
    while not board.is_over:
        assert board.take("a", now) == 0
        board.wait(0, "another run is writing there", now)
        attempts, now = attempts + 1, now + WRITING_PAUSE_SECONDS
    assert attempts == MOST_LOSSES
    assert 0 in board.failed


def test_the_ten_minutes_begin_anew_after_another_end() -> None:
    board = ShardBoard(1, [0])
    for now in (0.0, 10 * WRITING_SECONDS):
        board.take("a", now)
        board.wait(0, "another run is writing there", now)
        board.take("a", now + WRITING_PAUSE_SECONDS)
        board.lose(0, "gone", now + WRITING_PAUSE_SECONDS)
    for attempt in range(MOST_LOSSES - 2):
        now += 1000
        board.take("a", now)
        assert board.lose(0, "gone", now) == (attempt < MOST_LOSSES - 3)


def passes(*rows: int, share: float) -> dict[str, object]:
    return {"passes": [{"rows_done": one} for one in rows], "share_done": share}


def test_figures_of_all_shards() -> None:
    figures = ShardFigures(4, {0: 100}, now=10.0)
    figures.progress(1, passes(50, 30, share=0.5))
    figures.progress(1, passes(10, 5, share=0.1))  # it was lost, and another node resumes it
    figures.progress(2, passes(20, share=0.25))
    found = figures.snapshot(20.0, running=2, left=1, failed=0, nodes=2)
    assert (found.done, found.rows, found.share) == (1, 150, 0.4375)
    assert found.rows_per_second == 5.0
    assert found.seconds_left == 30.0
    assert found.line() == ("shards: 1 of 4 done, 2 running, 1 left on 2 nodes · 44% · 150 rows · 5 rows/s · ETA 0:30")
    figures.finish(1, 120)
    figures.progress(1, passes(0, share=0.0))  # a late report
    assert figures.snapshot(21.0, running=1, left=1, failed=0, nodes=2).rows == 240
    assert found.to_json()["shards"] == {"count": 4, "done": 1, "running": 2, "left": 1, "failed": 0}
