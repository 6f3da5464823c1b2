"""The worker's main loop: it owns the socket, and nothing else blocks it.

Hello → Stage → Staged → Hydrate → Ready → Batch… → Result… → Release → Released, exit. After the last result, another Stage may
come, for a run that loads the same. The loop that sends results also sends Alive, with the progress of the pipeline.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from ..protocol.errors import ProtocolError
from ..protocol.version import PROTOCOL, __version__
from ..protocol.wire import arrays, channels
from ..protocol.wire.arrays import Array
from ..protocol.wire.codec import Decoder, encode
from ..protocol.wire.work import (
    EXIT_STARVED,
    Alive,
    BatchFailedMessage,
    BatchMessage,
    Hydrate,
    Release,
    Released,
    StageMessage,
    ToWorker,
    WorkerHelloMessage,
    worker_identity,
)
from .device.memory import DeviceMemory, Starved
from .device.performance_monitor import PerformanceMonitor
from .model_manager import ModelManager
from .outcomes import Computed, Crashed, Outcome
from .pipeline import Pipeline, TextBatch
from .tokenizing.texts import Texts

ALIVE_SECONDS = 1.0
EXIT_CRASHED = 70
"""Exit code after an unexpected error in the compute thread; the traceback is on standard error."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The arguments from the host agent. `endpoint` is that of the work link."""

    endpoint: str
    worker: str
    epoch: int
    kind: str
    uuid: str
    threads: int


class WorkerLoop:
    """The worker's side of the work link."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = channels.connect(
            self._context, settings.endpoint, worker_identity(settings.worker, settings.epoch)
        )
        self._memory = DeviceMemory(settings.kind, settings.uuid)
        self._monitor = PerformanceMonitor(self._memory)
        self._pipeline = Pipeline(ModelManager(settings.kind, settings.threads, self._memory), self._memory)
        self._decoder: Decoder[ToWorker] = Decoder(ToWorker)
        self._outstanding = 0
        self._releasing = False
        self._send_seconds = 0.0
        """How long it took to send the last result."""

    def run(self) -> int:
        """Serve until released, and return the exit code."""
        self._send(WorkerHelloMessage(PROTOCOL, __version__, self._settings.epoch, os.getpid()))
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._pipeline.wake_fd, zmq.POLLIN)
        alive_at = 0.0
        while not (self._releasing and self._outstanding == 0):
            now = time.monotonic()
            if now >= alive_at:
                self._send_alive()
                alive_at = now + ALIVE_SECONDS
            ready = dict(poller.poll(max(1, int((alive_at - now) * 1000))))
            if self._socket in ready:
                self._receive()
            for outcome in self._pipeline.take():
                if isinstance(outcome, Crashed):
                    traceback.print_exception(outcome.error)
                    sys.stderr.write(_one_line(outcome.error) + "\n")  # the host agent reports the last line
                    return EXIT_CRASHED
                if isinstance(outcome, Starved):
                    sys.stderr.write(f"{outcome.reason}\n")
                    return EXIT_STARVED
                self._report(outcome)
        self._send_alive()  # so that a pass of less than a second has figures too
        self._send(Released(self._memory.peak()))
        return 0

    def close(self) -> None:
        """Hand the last messages to the system (at most two seconds), then free the sockets."""
        self._socket.close(linger=2_000)
        self._context.term()

    def _receive(self) -> None:
        head, *frames = self._socket.recv_multipart(copy=False)
        match self._decoder.decode(head.buffer):
            case StageMessage(spec):
                self._pipeline.stage(spec)
            case Hydrate():
                self._pipeline.hydrate()
            case BatchMessage() as batch:
                self._outstanding += 1
                self._pipeline.submit(
                    TextBatch(batch.batch, batch.epoch, _texts(batch, [frame.buffer for frame in frames]))
                )
            case Release():
                self._releasing = True

    def _report(self, outcome: Outcome) -> None:
        if isinstance(outcome, Computed):
            headers, frames = arrays.pack(outcome.arrays)
            self._outstanding -= 1
            timings = msgspec.structs.replace(outcome.message.timings, send=self._send_seconds)
            begin = time.monotonic()
            self._send(msgspec.structs.replace(outcome.message, arrays=headers, timings=timings), frames)
            self._send_seconds = time.monotonic() - begin
            return
        if isinstance(outcome, BatchFailedMessage):
            self._outstanding -= 1
        assert not isinstance(outcome, Crashed | Starved), "ended the loop before"
        self._send(outcome)

    def _send_alive(self) -> None:
        sample = self._monitor.sample()
        self._send(Alive(self._settings.epoch, self._pipeline.progress, sample.resident_bytes, sample))

    def _send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        self._socket.send_multipart([encode(message), *(frames or [])], copy=False)


def _one_line(error: BaseException) -> str:
    """The error in one line: torch's further lines are only hints for debugging."""
    return f"{type(error).__name__}: {str(error).strip().split(chr(10), 1)[0]}"


def _texts(batch: BatchMessage, frames: list[Any]) -> Texts:
    found: dict[str, Array] = arrays.unpack(batch.arrays, frames)
    try:
        texts = Texts(found["utf8"].data, found["offsets"])
    except ValueError as error:
        raise ProtocolError(f"a batch whose texts cannot be separated: {error}") from error
    if len(texts) != batch.rows:
        raise ProtocolError(f"a batch of {batch.rows} rows with {len(texts) + 1} offsets")
    return texts
