"""GpuDriver: calls a GPU's driver with a time limit.

A call into a driver that hangs (a GPU that has fallen off its bus, say) never returns, and nothing can interrupt it. So one
thread makes the calls, one after the other, and the process does not wait for that thread at its end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

T = TypeVar("T")


class GpuDriver:
    """For the use of one thread. Close it after the last call."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._waited: Future[Any] | None = None
        """The last call of `ask`. Posted calls do not count: a lease that ends posts one just before the next lease asks."""
        threading.Thread(target=self._answer, name="driver", daemon=True).start()

    def post(self, call: Callable[[], T]) -> Future[T]:
        """Queue `call`; return a future of its result."""
        answer: Future[T] = Future()
        self._asked.put((call, answer))
        return answer

    def ask(self, call: Callable[[], T], otherwise: T, seconds: float) -> T:
        """Return or raise what `call` does; `otherwise` if it takes longer, or the previous `ask` has no answer yet."""
        if self._waited is not None and not self._waited.done():
            return otherwise
        self._waited = answer = self.post(call)
        try:
            return answer.result(seconds)
        except NotYet:
            return otherwise

    def close(self) -> None:
        """End the thread after the calls queued so far."""
        self._asked.put(None)

    def _answer(self) -> None:
        while (asked := self._asked.get()) is not None:
            call, answer = asked
            try:
                answer.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again where the answer is read
                answer.set_exception(error)
