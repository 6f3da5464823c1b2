"""The one place where the loop waits: what ends the wait, and what is watched meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from embedfleet.coordinator.poll import Poll

LONG = 30.0


@pytest.fixture
def poll() -> Iterator[Poll]:
    made = Poll(())
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def waited(poll: Poll, seconds: float, *others: int) -> float:
    begin = time.monotonic()
    poll.wait(seconds, others)
    return time.monotonic() - begin


def test_another_thread_ends_the_wait(poll: Poll) -> None:
    waking = threading.Timer(0.05, poll.wake)
    waking.start()
    assert waited(poll, LONG) < LONG / 2
    waking.join()


def test_any_number_of_wakes_ends_one_wait(poll: Poll) -> None:
    for _ in range(100_000):  # more than the pipe takes
        poll.wake()
    while waited(poll, 0.0) < 0.001:
        pass  # until the pipe is empty again


def test_what_is_given_is_watched_for_as_long_as_it_is_given(poll: Poll, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    assert waited(poll, 0.05, reader) >= 0.04
    os.write(writer, b".")
    assert waited(poll, LONG, reader) < LONG / 2
    assert waited(poll, 0.05) >= 0.04, "it is watched no more"
