"""GpuDriver: asks the driver of GPUs without waiting for it longer than one likes.

A call into a driver that hangs (a GPU that has fallen off its bus, say) never returns, and nothing can interrupt it. So calls
are made by a thread of their own, one after the other, which the process does not wait for at its end either.
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
    """Asked by one thread. Close it when nothing more will be asked."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._waited: Future[Any] | None = None
        """What `ask` waited for last. What was posted does not count: a lease that ends posts a call just before the next."""
        threading.Thread(target=self._answer, name="driver", daemon=True).start()

    def post(self, call: Callable[[], T]) -> Future[T]:
        """Have it called; the answer comes when it comes."""
        answer: Future[T] = Future()
        self._asked.put((call, answer))
        return answer

    def ask(self, call: Callable[[], T], otherwise: T, seconds: float) -> T:
        """What `call` returns, or raises; `otherwise` where there is no answer in time, or the one before has not come."""
        if self._waited is not None and not self._waited.done():
            return otherwise
        self._waited = answer = self.post(call)
        try:
            return answer.result(seconds)
        except NotYet:
            return otherwise

    def close(self) -> None:
        """Nothing more will be asked."""
        self._asked.put(None)

    def _answer(self) -> None:
        while (asked := self._asked.get()) is not None:
            call, answer = asked
            try:
                answer.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised again where the answer is read
                answer.set_exception(error)
