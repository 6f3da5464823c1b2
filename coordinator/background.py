"""Threads for calls that may block, so that the loop never does. Each result comes back to the loop as a note.

The loop's thread carries the heartbeats, so it waits for nothing but its poll. Walking a folder, reading or renaming a file,
waiting for a process: each is a call for one of these threads. A disk that never answers costs one thread of many. No thread
keeps the process from ending.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

MOST_THREADS = 32


@dataclass(frozen=True, slots=True)
class Note:
    """A call for the loop's own thread. `run` is the run that it belongs to; empty: none."""

    run: str
    act: Callable[[], None]
    is_answer: bool = False
    """Whether it answers a posted call."""


class Background:
    """At most `most` threads. `wake` ends the loop's poll. Only `tell` may be called from any thread."""

    def __init__(self, wake: Callable[[], None], most: int = MOST_THREADS) -> None:
        self._wake, self._most = wake, most
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._notes: deque[Note] = deque()
        self._runs: set[str] = set()
        self._threads = self._unanswered = 0
        """Threads, and posted calls whose answer the loop has not taken: both are counted by the loop's thread alone."""
        self._start()

    def begin(self, run: str) -> None:
        """Accept notes of this run."""
        self._runs.add(run)

    def end(self, run: str) -> None:
        """Drop the notes of an ended run, later ones too."""
        self._runs.discard(run)

    def post(self, run: str, call: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """Run `call` on a thread, then `then` on the loop with a future: its `result()` returns or raises what `call` did."""
        self._calls.put(partial(self._answer, run, call, then))
        self._unanswered += 1
        if self._threads < min(self._unanswered, self._most):
            with contextlib.suppress(RuntimeError):  # the system has no more: one of those that are there takes it
                self._start()

    def leave(self, call: Callable[[], None]) -> None:
        """Run `call` on a thread and drop its result; what it raises is raised again on the loop."""
        self.post("", call, Future[None].result)

    def tell(self, run: str, act: Callable[[], None]) -> None:
        """Queue `act` for the loop's thread; callable from any thread."""
        self._notes.append(Note(run, act))
        self._wake()

    def notes(self) -> Iterator[Note]:
        """Yield the queued notes in order, without those of ended runs."""
        while self._notes:
            note = self._notes.popleft()
            self._unanswered -= note.is_answer
            if not note.run or note.run in self._runs:
                yield note

    def close(self) -> None:
        """End the threads, without waiting for calls that still run. Post nothing after it."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._work, name="background", daemon=True).start()
        self._threads += 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _answer(self, run: str, call: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        answer: Future[Any] = Future()
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again on the loop, where the answer is read
            answer.set_exception(error)
        self._notes.append(Note(run, partial(then, answer), is_answer=True))
        self._wake()
