"""The worker's threads: one tokenizes the next batch while others compute.

On a GPU one thread computes. On a CPU several do, the *streams*, each its own micro-batches: threads that share a forward pass
wait for each other after each operation, and lose most of their time where other processes use the same cores.
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

from ..protocol.wire.work import BatchFailedMessage, Mitigation, Ready
from .adaptive_batch import AdaptiveBatchController
from .compute_stream import ComputeStream, Shared
from .device.memory import DeviceMemory
from .encoders.base import Encoder, Notifies
from .micro_batches import MicroBatches, OpenBatch
from .model_manager import ModelManager
from .outcomes import Crashed, Outcome
from .token_allowance import TokenAllowance


@dataclass(frozen=True, slots=True)
class TextBatch:
    """A batch from the coordinator."""

    batch: int
    epoch: int
    texts: Sequence[str]


class Pipeline:
    """Runs one model. `progress` counts computed micro-batches and only grows."""

    def __init__(self, manager: ModelManager, memory: DeviceMemory) -> None:
        self._manager, self._memory = manager, memory
        self._incoming: queue.SimpleQueue[TextBatch] = queue.SimpleQueue()
        self._prepared: queue.Queue[OpenBatch] = queue.Queue(maxsize=1)
        self._outcomes: deque[Outcome] = deque()
        self.wake_fd, self._write_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        self.progress = 0

    def stage(self, spec: Any) -> None:
        """Load the model in a thread, so that the main thread can send Alive. The outcome is Staged, Broken, or Unfit if
        another model is loaded."""
        self._start(lambda: self._put(self._manager.stage(spec)), "stage")

    def hydrate(self) -> None:
        """Move the model to the device, then compute submitted batches. Once it is there, only report it again."""
        ready = self._manager.hydrated()
        if ready is not None:
            self._put(ready)
        else:
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
        shared = self._shared(encoder)
        self._start(self._tokenize_all, "tokenize")
        for number in range(1, shared.streams):
            self._start(ComputeStream(shared).run, f"compute-{number}")
        self._put(ready)
        ComputeStream(shared).run()

    def _shared(self, encoder: Encoder) -> Shared:
        streams, lock = self._manager.streams, threading.Lock()
        allowance = TokenAllowance(AdaptiveBatchController(encoder.budget, self._changed), self._memory)
        batches = MicroBatches(streams, lock, self._receive, self._put)
        return Shared(encoder, streams, batches, allowance, lock, self._put, self._progressed)

    def _receive(self, wait: bool) -> OpenBatch | None:
        """The next tokenized batch."""
        try:
            return self._prepared.get(block=wait)
        except queue.Empty:
            return None

    def _progressed(self) -> None:
        self.progress += 1

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
