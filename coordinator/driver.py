"""GpuDriver: asks the driver of GPUs, with a deadline.

A call into a driver that hangs (a GPU that has fallen off its bus, say) never returns, and nothing can interrupt it. So calls
are made by a thread of their own, which the process does not wait for at its end either.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds for one answer. One of a healthy driver takes some milliseconds."""


class GpuDriver:
    """Asked by one thread."""

    def __init__(self) -> None:
        self._count = self._answered = 0
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._answer, name="driver", daemon=True).start()

    @property
    def hung(self) -> bool:
        """Whether an answer did not come in time, and has not yet. Until it does nothing more is asked."""
        return self._answered != self._count

    def ask(self, call: Callable[[], T], otherwise: T, patience: float | None = None) -> T:
        """What `call` returns, or raises; `otherwise` where the driver hangs."""
        if self.hung:
            return otherwise
        answer: queue.SimpleQueue[tuple[T, BaseException | None]] = queue.SimpleQueue()
        self._count += 1
        self._asked.put((call, answer))
        try:
            value, error = answer.get(timeout=PATIENCE if patience is None else patience)
        except queue.Empty:
            return otherwise
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Nothing more will be asked."""
        self._asked.put(None)

    def _answer(self) -> None:
        while (asked := self._asked.get()) is not None:
            call, answer = asked
            value, error = None, None
            try:
                value = call()
            except BaseException as raised:  # noqa: BLE001 - raised again where it was asked for
                error = raised
            self._answered += 1
            answer.put((value, error))
