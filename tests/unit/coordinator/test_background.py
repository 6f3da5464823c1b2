"""What waits is called beside the loop, and comes back as notes about runs that go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from embedfleet.coordinator.background import Background

SECONDS = 10.0


class Loop:
    """A loop that waits for notes, and does what they say."""

    def __init__(self, most: int = 2) -> None:
        self._woken = threading.Semaphore(0)
        self.background = Background(self._woken.release, most)
        self.done: list[Any] = []

    def turn(self) -> None:
        """Wait for one note, and take all that are there."""
        assert self._woken.acquire(timeout=SECONDS), "no note has come"
        for note in self.background.notes():
            note.act()

    def post(self, call: Callable[[], Any], run: str = "") -> None:
        self.background.post(run, call, lambda answer: self.done.append(answer.result()))


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.background.close()


@pytest.fixture
def disk() -> Iterator[threading.Event]:
    """One that does not answer, until it is set."""
    made = threading.Event()
    yield made
    made.set()


def test_a_call_that_waits_holds_up_neither_the_loop_nor_another_call(loop: Loop, disk: threading.Event) -> None:
    loop.post(lambda: disk.wait() and "slow")
    loop.post(lambda: "quick")
    loop.turn()
    assert loop.done == ["quick"]
    disk.set()
    loop.turn()
    assert loop.done == ["quick", "slow"]


def test_calls_beyond_the_threads_wait_their_turn(loop: Loop, disk: threading.Event) -> None:
    for number in range(5):
        loop.post(lambda number=number: disk.wait() and number)
    disk.set()
    for _ in range(5):
        loop.turn()
    assert sorted(loop.done) == [0, 1, 2, 3, 4]


def test_where_the_system_has_no_more_threads_those_that_are_there_do(
    loop: Loop, disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loop.post(lambda: disk.wait() and "slow")
    loop.post(lambda: "quick")
    disk.set()
    loop.turn()
    loop.turn()
    assert loop.done == ["slow", "quick"]


def test_it_is_the_loops_thread_that_takes_an_answer_and_an_error(loop: Loop) -> None:
    threads: list[threading.Thread] = []

    def take(answer: Future[None]) -> None:
        threads.append(threading.current_thread())
        answer.result()

    def call() -> None:
        threads.append(threading.current_thread())
        raise OSError("no such disk")

    loop.background.post("", call, take)
    with pytest.raises(OSError, match="no such disk"):
        loop.turn()
    assert threads[0] is not threading.main_thread()
    assert threads[1] is threading.main_thread()


def test_an_error_of_a_call_that_nobody_waits_for_is_the_loops(loop: Loop) -> None:
    def call() -> None:
        raise OSError("no such disk")

    loop.background.leave(call)
    with pytest.raises(OSError, match="no such disk"):
        loop.turn()


def test_a_note_about_a_run_that_has_ended_is_dropped(loop: Loop, disk: threading.Event) -> None:
    loop.background.begin("r")
    loop.background.tell("r", lambda: loop.done.append("while it went on"))
    loop.turn()
    loop.post(lambda: disk.wait() and "after its end", run="r")
    loop.background.tell("r", lambda: loop.done.append("not taken yet"))
    loop.background.end("r")
    disk.set()
    loop.turn()
    loop.turn()
    assert loop.done == ["while it went on"]


def test_notes_come_in_order(loop: Loop) -> None:
    for number in range(100):
        loop.background.tell("", lambda number=number: loop.done.append(number))
    loop.turn()
    assert loop.done == list(range(100))


def test_calls_one_after_the_other_need_one_thread(loop: Loop) -> None:
    for number in range(2_000):
        loop.post(lambda number=number: number)
        loop.turn()
    assert loop.done == list(range(2_000))
    assert sum(thread.name == "background" for thread in threading.enumerate()) <= 2


def test_each_call_begins_while_there_are_threads_left(disk: threading.Event) -> None:
    loop = Loop(most=8)
    for _ in range(7):
        loop.post(lambda: disk.wait() and "slow")
    loop.post(lambda: "quick")
    loop.turn()
    assert loop.done == ["quick"]
    disk.set()
    loop.background.close()
