"""A thread that computes micro-batches. While the device works on one, the thread launches the next and collects the last."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..protocol.wire.work import BatchFailedMessage, Result, RowError, Timings
from .device.memory import Starved
from .encoders.base import Encoder, IntArray, Launched, OutOfMemory
from .micro_batches import MicroBatches, OpenBatch
from .outcomes import Computed
from .second_attempt import NoRoomForFloat32, usable_rows
from .token_allowance import Refusal, TokenAllowance, Verdict


@dataclass(frozen=True, slots=True)
class Ticket:
    """An open micro-batch."""

    one: OpenBatch
    rows: IntArray
    tokens: int
    launched: Launched


@dataclass(frozen=True, slots=True)
class Shared:
    """What the streams of a worker share. `lock` is held while any of it changes."""

    encoder: Encoder
    streams: int
    batches: MicroBatches
    allowance: TokenAllowance
    lock: threading.Lock
    put: Callable[[Starved], None]
    progressed: Callable[[], None]


class ComputeStream:
    """Computes the micro-batches that it takes, up to the encoder's `depth` at a time."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._encoder = shared, shared.encoder
        self._open: deque[Ticket] = deque()
        self._alone = False
        """After out of memory: until a micro-batch has been computed, no other may be open beside it."""
        self._since = 0.0
        """From when on the stream's time is not counted yet."""

    def run(self) -> None:
        """Compute for ever."""
        while True:
            self.step()

    def step(self) -> None:
        """Launch the next micro-batch if there is one, otherwise collect the oldest that is open. Waits for a batch only with
        none open."""
        if len(self._open) < (1 if self._alone else self._encoder.depth):
            found = self._shared.batches.take(lambda: self._shared.allowance.tokens, wait=not self._open)
            if found is not None:
                self._launch(*found)
                return
        self._collect()

    def _launch(self, one: OpenBatch, rows: IntArray) -> None:
        assert one.prepared is not None, "no rows are taken of it otherwise"
        if not self._open:
            self._since = time.monotonic()
        try:
            launched = self._encoder.launch(one.prepared, rows)
        except OutOfMemory as error:
            reason = str(error)
        else:
            self._open.append(Ticket(one, rows, one.tokens_of(rows), launched))
            return
        self._no_room(one, rows, reason, once_fit=True)

    def _collect(self) -> None:
        ticket = self._open.popleft()
        one, rows, tokens = ticket.one, ticket.rows, ticket.tokens
        assert one.prepared is not None, "it was launched"
        try:
            part = ticket.launched.collect()
            kept, part, errors = usable_rows(self._encoder, one.prepared, rows, part, self._attempted)
        except OutOfMemory as error:
            reason, once_fit = str(error), not isinstance(error, NoRoomForFloat32)
        else:
            self._alone = False
            with self._shared.lock:
                seconds = time.monotonic() - self._since
                self._shared.allowance.succeeded(int(one.prepared.lengths[rows[0]]), tokens, seconds)
                self._shared.progressed()
                one.padded += tokens
                one.errors.extend(errors)
                if len(kept):
                    one.parts.append((kept, part))
            self._put_down(one)
            return
        del ticket  # it may hold memory of the device
        self._no_room(one, rows, reason, once_fit=once_fit)

    def _no_room(self, one: OpenBatch, rows: IntArray, reason: str, *, once_fit: bool) -> None:
        """Collect what is open, then let the rows be taken again in a smaller micro-batch, or fail their batch."""
        beside = max((ticket.tokens for ticket in self._open), default=0)
        while self._open:
            self._collect()
        self._alone = True
        with self._shared.lock:
            verdict = self._shared.allowance.refused(Refusal(len(rows), one.tokens_of(rows), beside, once_fit))
            if verdict is Verdict.RETRY:
                one.give_back(rows)
            else:
                one.failed = BatchFailedMessage(one.batch, one.epoch, f"out of memory: {reason}"[:500])
        if verdict is Verdict.STARVED:
            self._shared.put(Starved(f"the device's memory is taken by others, or in pieces: {reason}"[:500]))
        self._put_down(one)

    def _put_down(self, one: OpenBatch) -> None:
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        with self._shared.lock:
            last = one.put_down(seconds)
        if last:
            self._shared.batches.finish(one, one.failed or self._gathered(one))

    def _gathered(self, one: OpenBatch) -> Computed:
        """The batch's result."""
        prepared = one.prepared
        assert prepared is not None, "it was computed"
        start = time.monotonic()
        arrays = self._encoder.gather(one.count, one.parts)
        arrays["n_tokens"] = prepared.lengths
        arrays["truncated"] = prepared.truncated.astype(np.uint8)
        arrays["tokens_cut"] = prepared.cut
        forward = one.seconds / self._shared.streams + time.monotonic() - start
        total = int(prepared.lengths.sum())
        timings = Timings(one.tokenize, forward, one.wait)
        errors: tuple[RowError, ...] = tuple(one.errors)
        return Computed(Result(one.batch, one.epoch, total, one.padded, timings, (), errors), arrays)

    def _attempted(self) -> None:
        with self._shared.lock:
            self._shared.progressed()
