"""PassEncoder: one pass, one worker, in a thread of its own. A worker that dies is started again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from ...protocol.errors import EmbedfleetError, UsageError
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.devices import Device
from ...protocol.wire.work import BatchFailedMessage
from .batch_queue import BatchQueue
from .results import Results
from .text_batches import BatchLimits, TextBatches, batch_limits
from .worker_process import Loaded, WorkerLost, WorkerProcess

MOST_LOSSES = 24
"""Workers lost in a row without a result: a text that kills them costs about 16 of them in a batch of 4,096 rows."""
MOST_LOADS = 4
"""Workers in a row that ended before their model was loaded."""
PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.25, 30.0
"""The pause before a worker is started again: the first one, and the longest."""
BATCH_SECONDS = 600.0
"""How long a batch may make no progress, by default."""


class PassEncoder:
    """Encodes texts by the model of one pass. `ready` is set once the model is loaded, or has failed to load.

    The thread owns the worker, which ends with it: so a call may come from any thread.
    """

    def __init__(
        self, spec: PassSpec, device: Device, *, batch_timeout: float | None = None, load_timeout: float | None = None
    ) -> None:
        self._spec, self._device = spec, device
        self._batch_timeout, self._load_timeout = batch_timeout or BATCH_SECONDS, load_timeout
        self._asked: queue.SimpleQueue[tuple[Sequence[str], Future[Results]] | None] = queue.SimpleQueue()
        self._is_closed, self._asking = False, threading.Lock()  # nothing is asked once it is closed
        self._worker: WorkerProcess | None = None
        self._loaded: Loaded | None = None
        self._losses = self._failed_loads = 0
        """Both count since the last result."""
        self.ready: Future[Loaded] = Future()
        self._thread = threading.Thread(target=self._serve, name=f"encode-{spec.vector}", daemon=True)
        self._thread.start()

    def encode(self, texts: Sequence[str]) -> Future[Results]:
        """The results of these texts, none of which is empty. EmbedfleetError if the worker cannot be kept alive, UsageError
        after `close`."""
        answer: Future[Results] = Future()
        with self._asking:
            if self._is_closed:
                raise UsageError("this Encode is closed, and its workers have ended; make a new one")
            self._asked.put((texts, answer))
        return answer

    def close(self, *, wait: bool = True) -> None:
        """End the worker, after the texts that it has. `wait`: until it has ended."""
        with self._asking:
            self._is_closed = True
            self._asked.put(None)
        if wait:
            self._thread.join()

    def _serve(self) -> None:
        try:
            self.ready.set_result(self._load())
            while (asked := self._asked.get()) is not None:
                texts, answer = asked
                try:
                    answer.set_result(self._encode(texts))
                except BaseException as error:  # noqa: BLE001 - raised where the answer is read
                    self._end()  # the result of what it still computes is not needed
                    answer.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - likewise
            self.ready.set_exception(error)
        finally:
            self._end()

    def _encode(self, texts: Sequence[str]) -> Results:
        loaded = self._loaded or self._load()
        fingerprint, outputs = loaded.staged.fingerprint, self._spec.outputs
        results = Results(len(texts), outputs, [fingerprint.dim_of(one.form) for one in outputs])
        batches = TextBatches(texts)
        waiting = BatchQueue(batches.cut(self._limits(loaded)))
        while not waiting.is_empty:
            try:
                self._step(waiting, batches, results)
            except WorkerLost as lost:
                waiting.lost(lost.reason, innocent=lost.innocent)
                self._lose(lost)
        results.give_up(waiting.errors)
        return results

    def _step(self, waiting: BatchQueue, batches: TextBatches, results: Results) -> None:
        """Send what may be sent, and take one answer."""
        if self._worker is None:
            self._load()
        assert self._worker is not None, "loaded"
        while (batch := waiting.take()) is not None:
            number, rows = batch
            self._worker.send(number, len(rows), batches.arrays(rows))
        answer = self._worker.receive()
        if isinstance(answer, BatchFailedMessage):
            waiting.failed(answer.batch, answer.reason)
            return
        message, arrays = answer
        results.add(waiting.done(message.batch), arrays, message.errors)
        self._losses = self._failed_loads = 0

    def _load(self) -> Loaded:
        """Start a worker with the model, again if it dies."""
        while True:
            try:
                self._worker = WorkerProcess(
                    self._device, batch_timeout=self._batch_timeout, load_timeout=self._load_timeout
                )
                self._loaded = self._worker.load(self._spec)
                return self._loaded
            except WorkerLost as lost:
                self._lose(lost)

    def _lose(self, lost: WorkerLost) -> None:
        """End what is left of a worker, and wait a little. EmbedfleetError after too many."""
        loading = self._loaded is None
        self._end()
        self._losses, self._failed_loads = self._losses + 1, self._failed_loads + loading
        if self._losses >= MOST_LOSSES or self._failed_loads >= MOST_LOADS:
            raise EmbedfleetError(
                f"{self._spec.vector}: {self._losses} workers in a row ended without a result on {self._device.name}, the last "
                f"one by {lost.reason}; `embedfleet doctor` looks for the cause"
            )
        time.sleep(min(PAUSE_SECONDS * 2**self._failed_loads, MOST_PAUSE_SECONDS))

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = self._loaded = None

    def _limits(self, loaded: Loaded) -> BatchLimits:
        return batch_limits(loaded.staged, loaded.ready)
