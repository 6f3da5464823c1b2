"""The work link: messages of workers, checked and turned into events, and messages to them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ...protocol.errors import EmbedfleetError, ProtocolError
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire import arrays
from ...protocol.wire.codec import Decoder, check_version, encode
from ...protocol.wire.result_shapes import check_result
from ...protocol.wire.work import (
    Alive,
    BatchFailedMessage,
    Broken,
    Hydrate,
    Mitigation,
    Ready,
    Release,
    Released,
    Result,
    Staged,
    StageMessage,
    ToCoordinator,
    Unfit,
    WorkerHelloMessage,
)
from ..core import actions, events
from ..core.state import WorkerSlot
from ..runs.batch_runner import Payload
from .context import Context

MESSAGES_AT_ONCE = 64
"""Messages read from the work link before the loop turns to the other links."""


class WorkerLink:
    """The work link."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)
        self._handlers: dict[type[Any], Callable[[WorkerSlot, Any], None]] = {
            WorkerHelloMessage: self._hello,
            Staged: self._staged,
            Ready: self._ready,
            Broken: self._broken,
            Unfit: self._unfit,
            BatchFailedMessage: self._batch_failed,
            Alive: self._alive,
            Mitigation: self._mitigation,
            Released: self._released,
        }

    def gather(self) -> None:
        """Handle waiting messages."""
        for _ in range(MESSAGES_AT_ONCE):
            if not self._context.work.poll(0):
                return
            name, *frames = self._context.work.recv_multipart(copy=False)
            identity = bytes(name.buffer)
            worker = self._context.worker_of(identity)
            if worker is None:  # ended, fenced or a stranger: ignore the message and have it end
                self._context.answer(identity, [encode(Release())])
                continue
            try:
                if not frames:
                    raise ProtocolError("an empty message")
                self._heard(worker, self._decoder.decode(frames[0].buffer), frames[1:])
            except ProtocolError as error:
                self._context.emit(events.WorkerBroken(worker.name, "ProtocolError", str(error), fatal=False))
                self._context.hosts.kill(worker.name, worker.host)

    def stage(self, action: actions.StageWorker) -> None:
        """Have a worker load its model."""
        spec = self._context.runs[action.run].settings.stage(action.pass_index, self._context.devices())
        self._context.send(action.worker, [encode(StageMessage(spec))])

    def hydrate(self, action: actions.HydrateWorker) -> None:
        """Have a worker move its model to the device."""
        self._context.send(action.worker, [encode(Hydrate())])

    def release(self, action: actions.ReleaseWorker) -> None:
        """Have a worker end."""
        self._context.send(action.worker, [encode(Release())])

    def send_batch(self, action: actions.SendBatch) -> None:
        """Send a worker a batch."""
        runner = self._context.runs[action.run]
        device = self._context.device_name(self._context.fleet.workers[action.worker].device)
        runner.telemetry.batch_sent(action, device, time.monotonic())
        self._context.send(action.worker, runner.batch(action))

    def _heard(self, worker: WorkerSlot, message: ToCoordinator, frames: list[Any]) -> None:
        if isinstance(message, Result):
            self._result(worker, message, frames)
        else:
            self._handlers[type(message)](worker, message)

    def _hello(self, worker: WorkerSlot, message: WorkerHelloMessage) -> None:
        check_version(f"worker {worker.name}", message.protocol, message.build, PROTOCOL, __version__)
        self._context.emit(events.WorkerHello(worker.name, message.epoch))

    def _staged(self, worker: WorkerSlot, message: Staged) -> None:
        runner = self._context.runs.get(worker.run)
        if runner is None:
            return
        try:
            sizes = (message.batch_tokens, message.row_bytes)
            runner.settings.staged(worker.pass_index, message.fingerprint, *sizes)
        except EmbedfleetError as error:
            self._context.emit(events.WorkerBroken(worker.name, type(error).__name__, str(error), fatal=True))
            return
        model = {"model": message.fingerprint.model, "dtype": message.fingerprint.dtype}
        self._lease(worker, "staged", None, seconds=message.seconds, **model)
        self._context.emit(events.WorkerStaged(worker.name, message.row_bytes))

    def _ready(self, worker: WorkerSlot, message: Ready) -> None:
        runner = self._context.runs.get(worker.run)
        if runner is None:
            return
        self._lease(worker, "hydrated", message.memory, placement=message.placement, seconds=message.seconds)
        runner.telemetry.note_backend(worker.pass_index, message.notes)
        runner.settings.hydrated(worker.pass_index, fixed_batches=message.fixed_batches)
        sizes = runner.settings.sizes(worker.pass_index)
        bounds = (0, 0) if message.fixed_batches else (sizes.most_tokens, sizes.most_rows)
        self._context.emit(events.WorkerReady(worker.name, *bounds))

    def _broken(self, worker: WorkerSlot, message: Broken) -> None:
        self._context.emit(events.WorkerBroken(worker.name, message.kind, message.message, message.fatal))
        self._context.hosts.kill(worker.name, worker.host)

    def _unfit(self, worker: WorkerSlot, _message: Unfit) -> None:
        self._context.emit(events.WorkerUnfit(worker.name))

    def _result(self, worker: WorkerSlot, message: Result, frames: list[Any]) -> None:
        buffers = [frame.buffer for frame in frames]
        arrays.check(message.arrays, buffers)
        batch = self._context.fleet.batches.get(message.batch)
        runner = self._context.runs.get(worker.run)
        if batch is not None and runner is not None and message.batch in worker.batches:
            check_result(message, buffers, batch.rows, runner.settings.outputs(batch.pass_index))
        device = self._context.device_name(worker.device)
        payload = Payload(message, buffers, device, batch.tokens if batch else 0)
        self._context.emit(events.BatchDone(worker.name, message.epoch, message.batch, payload))

    def _batch_failed(self, worker: WorkerSlot, message: BatchFailedMessage) -> None:
        if (runner := self._context.runs.get(worker.run)) is not None:
            runner.telemetry.batch_failed(message.batch, message.reason)
        self._context.emit(events.BatchFailed(worker.name, message.epoch, message.batch, message.reason))

    def _alive(self, worker: WorkerSlot, message: Alive) -> None:
        runner = self._context.runs.get(worker.run)
        if runner is not None and message.performance is not None:
            device = self._context.device_name(worker.device)
            runner.telemetry.performance(worker.pass_index, device, worker.name, message.performance)
        self._context.emit(events.WorkerAlive(worker.name, message.progress))

    def _mitigation(self, worker: WorkerSlot, message: Mitigation) -> None:
        if (runner := self._context.runs.get(worker.run)) is not None:
            device = self._context.device_name(worker.device)
            runner.telemetry.mitigation(worker.pass_index, device, worker.name, message)

    def _released(self, worker: WorkerSlot, message: Released) -> None:
        self._context.released.add(worker.name)
        self._lease(worker, "peak", message.peak)

    def _lease(self, worker: WorkerSlot, phase: str, memory: Any, **more: Any) -> None:
        runner = self._context.runs.get(worker.run)
        if runner is not None:
            runner.telemetry.lease(
                phase, worker.name, self._context.device_name(worker.device), worker.pass_index, memory, **more
            )
