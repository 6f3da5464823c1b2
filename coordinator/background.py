"""What may wait is called here, beside the loop; what comes of it goes back to the loop as a note.

The loop's thread carries the heartbeats, so it waits for nothing but its poll. A folder that is walked, a file that is read
or renamed, a process that is waited for: each is a call for one of these threads. A thread whose disk never answers is lost
to the others, who are many; none of them keeps the process from ending.
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
    """Something for the loop to do on its own thread; `run` is the run that it is about, empty where it is about none."""

    run: str
    act: Callable[[], None]
    is_answer: bool = False
    """Whether it answers a posted call."""


class Background:
    """Up to `most` threads. `wake` ends the loop's poll. Only `tell` may be called from any thread."""

    def __init__(self, wake: Callable[[], None], most: int = MOST_THREADS) -> None:
        self._wake, self._most = wake, most
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._notes: deque[Note] = deque()
        self._runs: set[str] = set()
        self._threads = self._unanswered = 0
        """Threads, and posted calls whose answer the loop has not taken: both are counted by the loop's thread alone."""
        self._start()

    def begin(self, run: str) -> None:
        """Take notes about this run, too."""
        self._runs.add(run)

    def end(self, run: str) -> None:
        """The run has ended: drop every note about it, those included that come later."""
        self._runs.discard(run)

    def post(self, run: str, call: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """Have `call` called by a thread, and then `then` by the loop, with the answer: `result()` is it, or raises."""
        self._calls.put(partial(self._answer, run, call, then))
        self._unanswered += 1
        if self._threads < min(self._unanswered, self._most):
            with contextlib.suppress(RuntimeError):  # the system has no more: one of those that are there takes it
                self._start()

    def leave(self, call: Callable[[], None]) -> None:
        """Have `call` called, which nobody waits for; what it raises is raised on the loop."""
        self.post("", call, Future[None].result)

    def tell(self, run: str, act: Callable[[], None]) -> None:
        """Have the loop do something; from any thread."""
        self._notes.append(Note(run, act))
        self._wake()

    def notes(self) -> Iterator[Note]:
        """The notes that are here, in order, without those about runs that have ended."""
        while self._notes:
            note = self._notes.popleft()
            self._unanswered -= note.is_answer
            if not note.run or note.run in self._runs:
                yield note

    def close(self) -> None:
        """Nothing more will be posted; nobody waits for calls that go on."""
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
