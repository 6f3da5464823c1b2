"""What workers, hosts and the exporter report, turned into events for the pool and figures for the telemetry."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ...protocol.errors import EmbedfleetError, ProtocolError, how_ended
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire import arrays
from ...protocol.wire.codec import Decoder, check_version, encode
from ...protocol.wire.export import (
    ChunksDamaged,
    Closed,
    Committed,
    ExporterAlive,
    ExportFailed,
    Opened,
    OpenRefused,
    PassRefused,
    Scrubbed,
    SegmentDamaged,
)
from ...protocol.wire.hosts import SpawnRefused, WorkerDied, WorkerGone, WorkerSpawned
from ...protocol.wire.work import (
    Alive,
    BatchFailed,
    Broken,
    Hydrate,
    Mitigation,
    Ready,
    Release,
    Released,
    Result,
    Stage,
    Staged,
    ToCoordinator,
    WorkerHello,
)
from ..core import actions as act
from ..core import events as ev
from ..core.state import WorkerSlot
from ..hosts.registry import HostEvent
from ..runs.batch_runner import BatchRunner, Payload
from .context import Context
from .result_shapes import check_result

LAST_WORD_SECONDS = 0.5
"""How long a worker's last message, with its peak in it, may come after the end of its process was seen."""
MESSAGES_AT_ONCE = 64
"""From the work link before the loop looks at the others."""


class WorkReports:
    """The work link."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)

    def gather(self) -> None:
        """Read what is here."""
        for _ in range(MESSAGES_AT_ONCE):
            if not self._context.work.poll(0):
                return
            name, *frames = self._context.work.recv_multipart(copy=False)
            identity = bytes(name.buffer)
            worker = self._context.worker_of(identity)
            if worker is None:  # ended, fenced, or a stranger: nothing it says counts, and it has no business here
                self._context.answer(identity, [encode(Release())])
                continue
            try:
                if not frames:
                    raise ProtocolError("an empty message")
                self._heard(worker, self._decoder.decode(frames[0].buffer), frames[1:])
            except ProtocolError as error:
                self._context.emit(ev.WorkerBroken(worker.name, "ProtocolError", str(error), fatal=False))
                self._context.hosts.kill(worker.name, worker.host)

    def command(self, action: act.StageWorker | act.HydrateWorker | act.ReleaseWorker) -> None:
        """Tell a worker what to do next."""
        match action:
            case act.StageWorker():
                spec = self._context.runs[action.run].stage(action.pass_index, self._context.devices())
                self._context.send(action.worker, [encode(Stage(spec))])
            case act.HydrateWorker():
                self._context.send(action.worker, [encode(Hydrate())])
            case act.ReleaseWorker():
                self._context.send(action.worker, [encode(Release())])

    def sent(self, action: act.SendBatch) -> None:
        """A batch goes out."""
        device = self._context.device_name(self._context.fleet.workers[action.worker].device)
        self._context.runs[action.run].telemetry.batch_sent(action, device, time.monotonic())

    def _heard(self, worker: WorkerSlot, message: ToCoordinator, frames: list[Any]) -> None:
        context, name = self._context, worker.name
        runner = context.runs.get(worker.run)
        match message:
            case WorkerHello():
                check_version(f"worker {name}", message.protocol, message.build, PROTOCOL, __version__)
                context.emit(ev.WorkerHello(name, message.epoch))
            case Staged():
                self._staged(worker, message, runner)
            case Ready():
                self._lease(worker, "hydrated", message.memory, placement=message.placement, seconds=message.seconds)
                context.emit(ev.WorkerReady(name))
            case Broken():
                context.emit(ev.WorkerBroken(name, message.kind, message.message, message.fatal))
                context.hosts.kill(name, worker.host)
            case Result():
                arrays.check(message.arrays, [frame.buffer for frame in frames])
                self._result(worker, message, frames)
            case BatchFailed():
                if runner is not None:
                    runner.telemetry.batch_failed(message.batch, message.reason)
                context.emit(ev.BatchFailed(name, message.epoch, message.batch, message.reason))
            case Alive():
                if runner is not None and message.performance is not None:
                    device = context.device_name(worker.device)
                    runner.telemetry.performance(worker.pass_index, device, name, message.performance)
                context.emit(ev.WorkerAlive(name, message.progress))
            case Mitigation():
                if runner is not None:
                    runner.telemetry.mitigation(worker.pass_index, context.device_name(worker.device), name, message)
            case Released():
                context.released.add(name)
                self._lease(worker, "peak", message.peak)
                if runner is not None:
                    runner.telemetry.released(worker.pass_index, message)

    def _staged(self, worker: WorkerSlot, message: Staged, runner: BatchRunner | None) -> None:
        if runner is None:
            return
        try:
            runner.staged(worker.pass_index, message.fingerprint, message.batch_tokens)
        except EmbedfleetError as error:
            self._context.emit(ev.WorkerBroken(worker.name, type(error).__name__, str(error), fatal=True))
            return
        model = {"model": message.fingerprint.model, "dtype": message.fingerprint.dtype}
        self._lease(worker, "staged", None, seconds=message.seconds, **model)
        self._context.emit(ev.WorkerStaged(worker.name, message.row_bytes))

    def _result(self, worker: WorkerSlot, message: Result, frames: list[Any]) -> None:
        batch = self._context.fleet.batches.get(message.batch)
        runner = self._context.runs.get(worker.run)
        if batch is not None and runner is not None and message.batch in worker.batches:
            outputs = runner.outputs(batch.pass_index)
            check_result(message, [frame.buffer for frame in frames], batch.rows, outputs)
        device = self._context.device_name(worker.device)
        payload = Payload(message, [frame.buffer for frame in frames], device, batch.tokens if batch else 0)
        self._context.emit(ev.BatchDone(worker.name, message.epoch, message.batch, payload))

    def _lease(self, worker: WorkerSlot, phase: str, memory: Any, **more: Any) -> None:
        runner = self._context.runs.get(worker.run)
        if runner is not None:
            runner.telemetry.lease(
                phase, worker.name, self._context.device_name(worker.device), worker.pass_index, memory, **more
            )


class HostReports:
    """The hosts link and the local agent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._leased: dict[str, tuple[str, int, str]] = {}
        """By worker: its run, pass and device name, for its last report."""
        self._held: list[tuple[float, WorkerGone]] = []
        """Ends in good order whose worker's last word is still on its way, and until when they wait for it."""

    def gather(self, now: float) -> None:
        """Read what is here."""
        for event in self._context.hosts.receive(now):
            self._heard(event)
        if self._context.hosts.local is not None:
            for gone in self._context.hosts.local.reap():
                self._heard(gone)
        held, self._held = self._held, []
        for until, gone in held:
            if gone.worker in self._context.released or now >= until:
                self._gone(gone)
            else:
                self._held.append((until, gone))

    def spawn(self, action: act.SpawnWorker) -> None:
        """Let the device's host start a worker."""
        worker = self._context.fleet.workers[action.worker]
        slot = self._context.fleet.devices[action.device]
        self._leased[action.worker] = (worker.run, worker.pass_index, slot.device.name)
        for event in self._context.hosts.spawn(action.worker, action.host, action.device, action.epoch):
            self._heard(event)

    def _heard(self, event: HostEvent) -> None:
        match event:
            case WorkerSpawned():
                self._lease("before", event.worker, event.memory, pid=event.pid)
            case WorkerDied(worker, end):
                innocent = bool(end.starved or end.fault)
                self._context.emit(ev.WorkerDied(worker, end.reason, innocent=innocent))
            case WorkerGone():
                if event.end.code == 0 and event.worker not in self._context.released:
                    self._held.append((time.monotonic() + LAST_WORD_SECONDS, event))
                else:
                    self._gone(event)
            case SpawnRefused():
                self._leased.pop(event.worker, None)
                self._context.emit(ev.SpawnRefused(event.worker, event.reason))
            case _:
                self._context.emit(event)

    def _gone(self, event: WorkerGone) -> None:
        self._context.released.discard(event.worker)
        self._lease("after", event.worker, event.memory, released=event.released, code=event.end.code)
        self._leased.pop(event.worker, None)
        self._context.emit(
            ev.WorkerExited(
                event.worker,
                event.end.reason,
                event.end.fault,
                innocent=bool(event.end.starved),
                unreleased=not event.released,
            )
        )

    def _lease(self, phase: str, worker: str, memory: Any, **more: Any) -> None:
        run, number, device = self._leased.get(worker, ("", 0, ""))
        runner = self._context.runs.get(run)
        if runner is not None:
            runner.telemetry.lease(phase, worker, device, number, memory, **more)


class ExportReports:
    """The export links of all runs, and the ends of their processes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def gather(self) -> None:
        """Read what is here; an exporter's end counts after all that it said."""
        for runner in list(self._context.runs.values()):
            link = runner.link
            if link is None:
                continue
            ended = link.process.exit_code()
            for message in link.receive():
                self._heard(runner, message)
            if link.silent():  # not before: after a pause of our own, its signs of life wait to be read
                link.process.kill()
            if ended is not None and runner.link is link:
                said = link.process.tail()[-500:]
                reason = f"{how_ended(ended)}. {said}" if said else how_ended(ended)
                runner.drop_exporter()
                if runner.closed is None:
                    self._context.emit(ev.ExporterLost(runner.run, reason))

    def _heard(self, runner: BatchRunner, message: Any) -> None:
        run, context = runner.run, self._context
        match message:
            case Opened():
                check_version("the exporter", message.protocol, message.build, PROTOCOL, __version__)
                context.emit(ev.RunOpened(run, runner.opened(message)))
            case OpenRefused():
                context.emit(ev.RunFailed(run, message.kind, message.message))
                context.emit(ev.RunClosed(run))
            case PassRefused():
                context.emit(ev.RunFailed(run, "SpecMismatch", message.message))
            case Committed():
                runner.segment_committed(message.number, message.segment, message.rows)
                vector = runner.spec.passes[message.number].vector
                fields = {"segment": message.segment, "rows": message.rows, "quarantined": message.quarantined}
                runner.telemetry.event("segment_committed", vector=vector, seconds=round(message.seconds, 4), **fields)
                context.emit(ev.SegmentCommitted(run, message.number, message.segment))
            case ExportFailed():
                with contextlib.suppress(ValueError):
                    runner.telemetry.event("export_failed", message=message.message)
                context.emit(ev.RunFailed(run, "RunFailed", f"results cannot be written: {message.message}"))
            case SegmentDamaged():
                runner.segment_damaged(message)
                context.emit(ev.SegmentDamaged(run, message.number, message.segment))
            case ChunksDamaged():
                context.emit(ev.RunFailed(run, "RunFailed", runner.chunks_damaged(message)))
            case Scrubbed():
                context.emit(ev.Scrubbed(run))
            case ExporterAlive():
                pass
            case Closed():
                runner.closed = message
                runner.telemetry.stored_as_float16(message.float16_segments)
                if message.problem:
                    context.emit(ev.RunFailed(run, "RunFailed", f"{runner.layout.root}: {message.problem}"))
                context.emit(ev.RunClosed(run))
            case _:
                raise ProtocolError(f"an unexpected message on the export link: {type(message).__name__}")
