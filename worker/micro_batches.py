"""The batches that a worker computes now. Its streams take micro-batches of them; results are handed out in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..protocol.wire.work import BatchFailedMessage, RowError
from .encoders.base import IntArray, Prepared
from .token_budget import fitting, longest_first


@dataclass(slots=True)
class OpenBatch:
    """A batch of `count` texts, tokenized, and what is computed of it."""

    batch: int
    epoch: int
    count: int
    prepared: Prepared | None
    """None: tokenizing failed, and `failed` says why."""
    pads: bool
    """Whether rows computed together are padded to the longest."""
    tokenize: float
    """Seconds."""
    failed: BatchFailedMessage | None = None
    wait: float = 0.0
    """Seconds that the streams were idle before it, on average."""
    seconds: float = 0.0
    """Spent on its micro-batches, all streams together."""
    padded: int = 0
    parts: list[tuple[IntArray, Any]] = field(default_factory=list[tuple[IntArray, Any]])
    errors: list[RowError] = field(default_factory=list[RowError])
    _left: deque[IntArray] = field(init=False)
    """Rows that nobody has taken, in pieces; each is sorted by length."""
    _running: int = 0

    def __post_init__(self) -> None:
        order = longest_first(self.prepared.lengths) if self.prepared is not None else np.empty(0, np.int32)
        self._left = deque([order] if len(order) else [])

    def take(self, tokens: int) -> IntArray | None:
        """The rows of the next micro-batch, the longest first; None: no more are to be computed."""
        if self.prepared is None or not self._is_left():
            return None
        piece = self._left.popleft()
        count = fitting(self.prepared.lengths, piece, 0, tokens, pads=self.pads)
        if count < len(piece):
            self._left.appendleft(piece[count:])
        self._running += 1
        return piece[:count]

    def give_back(self, rows: IntArray) -> None:
        """Let these rows be taken again; they come first."""
        self._left.appendleft(rows)

    def tokens_of(self, rows: IntArray) -> int:
        """Tokens that are computed for these rows, padding included."""
        assert self.prepared is not None, "no rows are taken of it otherwise"
        lengths = self.prepared.lengths[rows]
        return len(rows) * int(lengths[0]) if self.pads else int(lengths.sum())

    def put_down(self, seconds: float) -> bool:
        """Note that a micro-batch is over. Whether it was the last one."""
        self._running -= 1
        self.seconds += seconds
        return not self._running and not self._is_left()

    def _is_left(self) -> bool:
        return self.failed is None and bool(self._left)


class MicroBatches:
    """Shared by `streams` threads. `receive` waits for the next batch; `hand_out` gets the outcome of each batch, in order.

    `lock` is held while the state of an open batch changes. `receive(wait)` gets the next batch; None if there is none yet, and
    it must not wait.
    """

    def __init__(
        self,
        streams: int,
        lock: threading.Lock,
        receive: Callable[[bool], OpenBatch | None],
        hand_out: Callable[[Any], None],
    ) -> None:
        self._streams, self._lock, self._receive, self._hand_out = streams, lock, receive, hand_out
        self._turn = threading.Lock()
        """Of the stream that waits for the next batch: the others come after it."""
        self._open: deque[OpenBatch] = deque()
        self._outcomes: dict[int, Any] = {}
        self._idle = 0.0

    def take(self, tokens: Callable[[], int], *, wait: bool = True) -> tuple[OpenBatch, IntArray] | None:
        """A micro-batch of the oldest batch that has rows left, of at most `tokens()`. If none has, wait for a batch; None if
        it must not wait."""
        # Rows may have been given back while another stream waits for a batch: they come before it.
        if (given_back := self._next(tokens)) is not None:
            return given_back
        since = time.monotonic()
        if not self._turn.acquire(blocking=wait):
            return None
        try:
            while (found := self._next(tokens)) is None:
                opened = self._receive(wait)
                if opened is None:
                    return None
                with self._lock:
                    now = time.monotonic()
                    opened.wait, self._idle, since = (self._idle + now - since) / self._streams, 0.0, now
                    self._open.append(opened)
                if opened.failed is not None:
                    self.finish(opened, opened.failed)
        finally:
            self._turn.release()
        with self._lock:
            self._idle += time.monotonic() - since
        return found

    def finish(self, one: OpenBatch, outcome: Any) -> None:
        """Set a batch's outcome, and hand out those whose turn it is."""
        with self._lock:
            self._outcomes[id(one)] = outcome
            while self._open and id(self._open[0]) in self._outcomes:
                self._hand_out(self._outcomes.pop(id(self._open.popleft())))

    def _next(self, tokens: Callable[[], int]) -> tuple[OpenBatch, IntArray] | None:
        with self._lock:
            for one in self._open:
                rows = one.take(tokens())
                if rows is not None:
                    return one, rows
        return None
