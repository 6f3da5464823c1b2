"""The worker's threads: one tokenizes the next batch while others compute.

On a GPU one thread computes. On a CPU several do, the *streams*, each one micro-batch at a time: threads that share a forward
pass wait for each other after each operation, and lose most of their time where other processes use the same cores.
`submit` queues a batch, `take` returns outcomes; `wake_fd` is readable when there are any. The main thread sends them, so
tokenizing, forward passes and sending overlap.
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
from .micro_batches import ManyOrOne, MicroBatches, OpenBatch
from .model_manager import ModelManager
from .token_budget import fitting


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
        self._prepared: queue.Queue[OpenBatch] = queue.Queue(maxsize=1)
        self._outcomes: deque[Outcome] = deque()
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self.progress = 0
        self._lock = threading.Lock()
        """Of all that the streams share."""
        self._model = ManyOrOne()
        """A second attempt in float32 converts the model's weights meanwhile."""
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
        tokens = self._manager.encoder.budget.initial
        self._put(Mitigation(reason[:500], tokens, tokens))

    def _compute_all(self) -> None:
        encoder = self._manager.encoder
        if isinstance(encoder, Notifies):
            encoder.notify = self._noticed
        ready = self._manager.hydrate()
        if not isinstance(ready, Ready):
            self._put(ready)
            return
        streams = self._manager.streams
        controller = AdaptiveBatchController(self._manager.encoder.budget, self._changed)
        shared = MicroBatches(streams, self._lock, self._prepared.get, self._put)
        self._start(self._tokenize_all, "tokenize")
        for number in range(1, streams):
            self._start(lambda: self._compute_stream(shared, controller), f"compute-{number}")
        self._put(ready)
        self._compute_stream(shared, controller)

    def _tokenize_all(self) -> None:
        while True:
            batch = self._incoming.get()
            start = time.monotonic()
            prepared = failed = None
            try:
                prepared = self._manager.encoder.prepare(batch.texts)
            except Exception as error:  # noqa: BLE001 - a text that a tokenizer cannot take is the batch's failure
                failed = BatchFailedMessage(batch.batch, batch.epoch, f"tokenizing failed: {error}"[:500])
            seconds = time.monotonic() - start
            pads = self._manager.encoder.pads
            self._prepared.put(OpenBatch(batch.batch, batch.epoch, len(batch.texts), prepared, pads, seconds, failed))

    def _compute_stream(self, shared: MicroBatches, controller: AdaptiveBatchController) -> None:
        while True:
            one, rows = shared.take(lambda: controller.tokens)
            start = time.monotonic()
            self._compute_rows(one, rows, controller)
            with self._lock:
                last = one.put_down(time.monotonic() - start)
            if last:
                shared.finish(one, one.failed or self._gather(one))

    def _compute_rows(self, one: OpenBatch, rows: IntArray, controller: AdaptiveBatchController) -> None:
        """Compute rows that fitted the budget when they were taken; in parts if the memory does not suffice."""
        prepared = one.prepared
        assert prepared is not None, "no rows are taken of it otherwise"
        while len(rows) and one.failed is None:
            count = fitting(prepared.lengths, rows, 0, controller.tokens, pads=one.pads)
            some = rows[:count]
            tokens = count * int(prepared.lengths[some[0]]) if one.pads else int(prepared.lengths[some].sum())
            try:
                kept, part, errors = self._compute_some(prepared, some)
            except OutOfMemory as error:
                failure, once_fit = str(error), not isinstance(error, _NoRoomForFloat32)
            else:
                rows = rows[count:]
                with self._lock:
                    self._succeeded(controller)
                    self._longest = max(self._longest, int(prepared.lengths[some[0]]))
                    one.padded += tokens
                    one.errors.extend(errors)
                    if len(kept):
                        one.parts.append((kept, part))
                continue
            with self._lock:
                self._no_room(one, controller, count, tokens, failure, once_fit=once_fit)

    def _succeeded(self, controller: AdaptiveBatchController) -> None:
        pressure = self._memory.pressure()
        controller.succeeded(pressure.share)
        if pressure.crowded and controller.crowded():
            self._memory.give_back()
        self.progress += 1

    def _no_room(
        self,
        one: OpenBatch,
        controller: AdaptiveBatchController,
        count: int,
        tokens: int,
        failure: str,
        *,
        once_fit: bool,
    ) -> None:
        """Shrink the budget after `count` rows did not fit. If it was one row alone, the batch has failed, or the process must
        end."""
        smaller = controller.out_of_memory(tokens)
        if smaller and count > 1:
            return
        one.failed = BatchFailedMessage(one.batch, one.epoch, f"out of memory: {failure}"[:500])
        if count == 1 and once_fit and (tokens <= self._longest or self._memory.pressure().crowded):
            self._put(Starved(f"the device's memory is taken by others, or in pieces: {failure}"[:500]))

    def _gather(self, one: OpenBatch) -> Computed:
        """The batch's result."""
        prepared = one.prepared
        assert prepared is not None, "it was computed"
        start = time.monotonic()
        arrays = self._manager.encoder.gather(one.count, one.parts)
        arrays["n_tokens"] = prepared.lengths
        arrays["truncated"] = prepared.truncated.astype(np.uint8)
        arrays["tokens_cut"] = prepared.cut
        forward = one.seconds / self._manager.streams + time.monotonic() - start
        total = int(prepared.lengths.sum())
        timings = Timings(one.tokenize, forward, one.wait)
        return Computed(Result(one.batch, one.epoch, total, one.padded, timings, (), tuple(one.errors)), arrays)

    def _compute_some(self, prepared: Prepared, rows: IntArray) -> tuple[IntArray, Any, list[RowError]]:
        """Compute one micro-batch. Returns the rows with a result, their results, and the errors of the other rows.

        Rows with unusable values are computed again in float32, one by one; so is every row if the result has the wrong
        shape, since its numbers cannot be assigned to rows. A row whose second result is bad too gets an error. Out of memory
        discards the whole micro-batch, with its errors.
        """
        encoder = self._manager.encoder
        with self._model.many():
            part = encoder.compute(prepared, rows)
        if encoder.fits(part, len(rows)):
            bad = np.flatnonzero(encoder.unusable(part)).tolist()
        else:
            part, bad = [None] * len(rows), list(range(len(rows)))
        refused: dict[int, str] = {}
        for position in bad:
            try:
                with self._model.alone():
                    again = encoder.recompute(prepared, rows[position : position + 1])
            except OutOfMemory as error:
                raise _NoRoomForFloat32(str(error)) from error
            with self._lock:
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
