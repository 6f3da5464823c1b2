"""The exporter's main loop: one run, from OpenRun to Closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import zmq

from ..protocol import channels
from ..protocol.codec import Decoder, check_version, encode
from ..protocol.errors import EmbedfleetError
from ..protocol.export_messages import (
    BeginPass,
    CloseRun,
    ExportFailed,
    FailedRows,
    Opened,
    OpenRefused,
    OpenRun,
    PassRefused,
    Record,
    Rows,
    SourceRead,
    ToExporter,
)
from ..protocol.version import PROTOCOL, __version__
from .export_runtime import ExportRuntime
from .run_directory import RunDirectory


class ExporterLoop:
    """One exporter's conversation with its coordinator."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = channels.bind(self._context, zmq.PAIR, endpoint)
        self._decoder: Decoder[ToExporter] = Decoder(ToExporter)
        self._runtime: ExportRuntime | None = None

    def run(self) -> int:
        """Serve the run to its end; the exit code."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._runtime is not None and self._runtime.wake_fd in ready:
                for report in self._runtime.take():
                    self._send(report)
            if self._socket not in ready:
                continue
            head, *frames = self._socket.recv_multipart(copy=False)
            match self._decoder.decode(head.buffer):
                case OpenRun() as message:
                    if not self._open(message):
                        return 0
                    assert self._runtime is not None, "just opened"
                    poller.register(self._runtime.wake_fd, zmq.POLLIN)
                case CloseRun() as message:
                    self._close(message)
                    return 0
                case message:
                    self._work(message, frames)

    def close(self) -> None:
        """Hand the last messages to the system, then free the sockets."""
        self._socket.close(linger=2_000)
        self._context.term()

    def _open(self, message: OpenRun) -> bool:
        try:
            check_version("the coordinator", message.protocol, message.build, PROTOCOL, __version__)
            directory = RunDirectory(Path(message.directory), message.spec, restart=message.restart)
            runtime = ExportRuntime(directory, message.run)
        except EmbedfleetError as error:
            self._send(OpenRefused(type(error).__name__, str(error)))
            return False
        self._runtime = runtime
        self._send(Opened(PROTOCOL, __version__, runtime.committed, runtime.fingerprints))
        return True

    def _work(self, message: BeginPass | SourceRead | Rows | FailedRows | Record, frames: list[Any]) -> None:
        runtime = self._runtime
        assert runtime is not None, "the coordinator opens the run first"
        match message:
            case BeginPass():
                try:
                    runtime.begin_pass(message.number, message.fingerprint)
                except EmbedfleetError as error:
                    self._send(PassRefused(message.number, str(error)))
                except OSError as error:
                    self._send(ExportFailed(f"pass.json cannot be written: {error}"))
            case SourceRead():
                runtime.source_read(message)
            case Rows():
                try:
                    runtime.add(message, [frame.buffer for frame in frames])
                except EmbedfleetError as error:
                    self._send(ExportFailed(str(error)))
            case FailedRows():
                runtime.give_up(message)
            case Record():
                runtime.record(message)

    def _close(self, message: CloseRun) -> None:
        assert self._runtime is not None, "the coordinator opens the run first"
        try:
            closed = self._runtime.close(message)
        except Exception as error:  # noqa: BLE001 - a full disk, a broken shard: one message, whatever it is
            self._send(ExportFailed(f"{type(error).__name__}: {error}"))
            return
        for report in self._runtime.take():
            self._send(report)
        self._send(closed)

    def _send(self, message: msgspec.Struct) -> None:
        self._socket.send(encode(message))
