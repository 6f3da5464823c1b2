"""The worker's two threads: one tokenizes the next batch while the other computes this one.

`submit` queues a batch, `take` returns outcomes; `wake_fd` is readable when there are any. The main thread sends them, so
tokenizing, forward pass and sending overlap.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..protocol.wire.arrays import Array
from ..protocol.wire.work import BatchFailedMessage, Broken, Mitigation, Ready, Result, RowError, Staged, Timings
from .adaptive_batch import AdaptiveBatchController
from .device.memory import DeviceMemory, Starved
from .encoders.base import IntArray, Notifies, OutOfMemory, Prepared
from .model_manager import ModelManager
from .token_budget import fitting, longest_first


@dataclass(frozen=True, slots=True)
class TextBatch:
    """A batch from the coordinator."""

    batch: int
    epoch: int
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed batch. `message` lacks the headers of `arrays`, whose rows are in the order of the texts."""

    message: Result
    arrays: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Crashed:
    """An error in a thread that no batch is to blame for: the process must end."""

    error: BaseException


Outcome = Staged | Ready | Broken | Computed | BatchFailedMessage | Starved | Mitigation | Crashed


class _NoRoomForFloat32(OutOfMemory):
    """Out of memory in `recompute`, which needs more than `compute`."""


class Pipeline:
    """Runs one model. `progress` counts micro-batches and only grows."""

    def __init__(self, manager: ModelManager, memory: DeviceMemory) -> None:
        self._manager, self._memory = manager, memory
        self._incoming: queue.SimpleQueue[TextBatch] = queue.SimpleQueue()
        self._prepared: queue.Queue[tuple[TextBatch, Prepared | Exception, float]] = queue.Queue(maxsize=1)
        self._outcomes: deque[Outcome] = deque()
        self._controller: AdaptiveBatchController | None = None
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self.progress = 0
        self._longest = 0
        """Tokens of the longest computed text. A shorter one fits too, unless other processes took the memory."""

    def stage(self, spec: Any) -> None:
        """Load the model in a thread, so that the main thread can send Alive. The outcome is Staged or Broken."""
        self._start(lambda: self._put(self._manager.stage(spec)), "stage")

    def hydrate(self) -> None:
        """Move the model to the device, then compute submitted batches."""
        self._start(self._compute_all, "compute")

    def submit(self, batch: TextBatch) -> None:
        """Queue a batch. The coordinator's credits bound the queue."""
        self._incoming.put(batch)

    def take(self) -> list[Outcome]:
        """The outcomes since the last call."""
        try:
            os.read(self.wake_fd, 4096)
        except BlockingIOError:
            return []
        taken: list[Outcome] = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        return taken

    def _start(self, work: Any, name: str) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to the main thread, which ends the process
                self._put(Crashed(error))

        threading.Thread(target=guarded, name=name, daemon=True).start()

    def _put(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        os.write(self._write_fd, b".")

    def _changed(self, reason: str, before: int, after: int) -> None:
        self._put(Mitigation(reason, before, after))

    def _noticed(self, reason: str) -> None:
        tokens = self._controller.tokens if self._controller is not None else self._manager.encoder.budget.initial
        self._put(Mitigation(reason[:500], tokens, tokens))

    def _compute_all(self) -> None:
        encoder = self._manager.encoder
        if isinstance(encoder, Notifies):
            encoder.notify = self._noticed
        ready = self._manager.hydrate()
        if isinstance(ready, Ready):
            self._controller = AdaptiveBatchController(self._manager.encoder.budget, self._changed)
            self._start(self._tokenize_all, "tokenize")
        self._put(ready)
        while isinstance(ready, Ready):
            waiting = time.monotonic()
            batch, prepared, tokenize = self._prepared.get()
            wait = time.monotonic() - waiting
            if isinstance(prepared, Exception):
                self._put(BatchFailedMessage(batch.batch, batch.epoch, f"tokenizing failed: {prepared}"[:500]))
                continue
            self._put(self._compute(batch, prepared, tokenize, wait))

    def _tokenize_all(self) -> None:
        while True:
            batch = self._incoming.get()
            start = time.monotonic()
            try:
                prepared = self._manager.encoder.prepare(batch.texts)
            except Exception as error:  # noqa: BLE001 - a text that a tokenizer cannot take is the batch's failure
                self._prepared.put((batch, error, 0.0))
                continue
            self._prepared.put((batch, prepared, time.monotonic() - start))

    def _compute(
        self, batch: TextBatch, prepared: Prepared, tokenize: float, wait: float
    ) -> Computed | BatchFailedMessage | Starved:
        encoder, controller = self._manager.encoder, self._controller
        assert controller is not None, "set before the first batch"
        start = time.monotonic()
        order = longest_first(prepared.lengths)
        parts: list[tuple[IntArray, Any]] = []
        errors: list[RowError] = []
        done = padded = 0
        while done < len(order):
            count = fitting(prepared.lengths, order, done, controller.tokens, pads=encoder.pads)
            rows = order[done : done + count]
            tokens = int(prepared.lengths[rows].sum()) if not encoder.pads else count * int(prepared.lengths[rows[0]])
            try:
                kept, part, failed = self._compute_some(prepared, rows)
            except OutOfMemory as error:
                failure, once_fit = str(error), not isinstance(error, _NoRoomForFloat32)
            else:
                pressure = self._memory.pressure()
                controller.succeeded(pressure.share)
                if pressure.crowded and controller.crowded():
                    self._memory.give_back()
                self.progress += 1
                self._longest = max(self._longest, int(prepared.lengths[rows[0]]))
                done += count
                padded += tokens
                if len(kept):
                    parts.append((kept, part))
                errors.extend(failed)
                continue
            smaller = controller.out_of_memory(tokens)
            if count == 1 and once_fit and (tokens <= self._longest or self._memory.pressure().crowded):
                return Starved(f"the device's memory is taken by others, or in pieces: {failure}"[:500])
            if not smaller or count == 1:
                return BatchFailedMessage(batch.batch, batch.epoch, f"out of memory: {failure}"[:500])
        arrays = encoder.gather(len(batch.texts), parts)
        arrays["n_tokens"] = prepared.lengths
        arrays["truncated"] = prepared.truncated.astype(np.uint8)
        arrays["tokens_cut"] = prepared.cut
        timings = Timings(tokenize, time.monotonic() - start, wait)
        total = int(prepared.lengths.sum())
        return Computed(Result(batch.batch, batch.epoch, total, padded, timings, (), tuple(errors)), arrays)

    def _compute_some(self, prepared: Prepared, rows: IntArray) -> tuple[IntArray, Any, list[RowError]]:
        """Compute one micro-batch. Returns the rows with a result, their results, and the errors of the other rows.

        Rows with unusable values are computed again in float32, one by one; so is every row if the result has the wrong
        shape, since its numbers cannot be assigned to rows. A row whose second result is bad too gets an error. Out of memory
        discards the whole micro-batch, with its errors.
        """
        encoder = self._manager.encoder
        part = encoder.compute(prepared, rows)
        if encoder.fits(part, len(rows)):
            bad = np.flatnonzero(encoder.unusable(part)).tolist()
        else:
            part, bad = [None] * len(rows), list(range(len(rows)))
        refused: dict[int, str] = {}
        for position in bad:
            try:
                again = encoder.recompute(prepared, rows[position : position + 1])
            except OutOfMemory as error:
                raise _NoRoomForFloat32(str(error)) from error
            self.progress += 1
            if not encoder.fits(again, 1):
                refused[position] = "the model's result is of another shape than its vectors have"
            elif encoder.unusable(again)[0]:
                refused[position] = "the model's result is not finite or has no length"
            else:
                part[position] = again[0]
        errors = [RowError(int(rows[position]), reason) for position, reason in refused.items()]
        if refused:
            kept = [position for position in range(len(rows)) if position not in refused]
            rows, part = rows[kept], [part[position] for position in kept]
        for position, reason in encoder.empty_too_large(part).items():
            errors.append(RowError(int(rows[position]), reason, "multivector", too_large=True))
        return rows, part, errors
