"""What becomes of a batch that fails, or whose worker dies."""

from __future__ import annotations

import numpy as np
from embedfleet.client.encoding.batch_queue import BatchQueue


def queue(*sizes: int) -> BatchQueue:
    """Batches of these sizes, with rows counted through."""
    ends = np.cumsum(sizes)
    return BatchQueue([np.arange(end - size, end, dtype=np.int32) for size, end in zip(sizes, ends, strict=True)])


def taken(waiting: BatchQueue) -> tuple[int, list[int]]:
    found = waiting.take()
    assert found is not None
    return found[0], found[1].tolist()


def survive(waiting: BatchQueue, poison: set[int], *, deadly: bool) -> int:
    """Run it to its end with rows that fail, or kill the worker. The number of failures."""
    failures = 0
    while not waiting.is_empty:
        sent: list[tuple[int, list[int]]] = []
        while (found := waiting.take()) is not None:
            sent.append((found[0], found[1].tolist()))
        for number, rows in sent:
            if poison.isdisjoint(rows):
                waiting.done(number)
            elif deadly:
                failures += 1
                waiting.lost("killed")
                break
            else:
                failures += 1
                waiting.failed(number, "does not fit")
    return failures


def test_two_batches_are_with_the_worker() -> None:
    waiting = queue(2, 3, 1)
    first, rows = taken(waiting)
    assert rows == [0, 1]
    assert taken(waiting)[1] == [2, 3, 4]
    assert waiting.take() is None
    assert waiting.done(first).tolist() == [0, 1]
    assert taken(waiting)[1] == [5]


def test_a_batch_that_failed_travels_alone_and_is_then_halved() -> None:
    waiting = queue(4, 1)
    first, _ = taken(waiting)
    other, _ = taken(waiting)
    waiting.failed(first, "no memory")
    assert waiting.take() is None, "it waits until the other one is back"
    waiting.done(other)
    again, rows = taken(waiting)
    assert rows == [0, 1, 2, 3]
    waiting.failed(again, "no memory")
    assert taken(waiting)[1] == [0, 1]
    assert waiting.take() is None


def test_a_row_that_fails_twice_alone_is_given_up() -> None:
    waiting = queue(1)
    for _ in range(2):
        number, _ = taken(waiting)
        waiting.failed(number, "no memory")
    assert waiting.is_empty
    assert waiting.errors == {0: "no memory"}


def test_only_the_rows_to_blame_are_given_up() -> None:
    for deadly in (False, True):
        waiting = queue(16, 16, 5)
        failures = survive(waiting, {3, 20}, deadly=deadly)
        assert set(waiting.errors) == {3, 20}
        assert failures <= 16


def test_a_loss_that_is_nobodys_fault_blames_nobody() -> None:
    waiting = queue(2, 2)
    taken(waiting)
    taken(waiting)
    waiting.lost("the device is full", innocent=True)
    assert [taken(waiting)[1], taken(waiting)[1]] == [[0, 1], [2, 3]]
