"""The exporter's main loop: one run, from OpenRunMessage to Closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zmq

from ..protocol.errors import EmbedfleetError
from ..protocol.object_storage.mirror import Mirror, follow_spool
from ..protocol.process.system_refusals import describe_write_failure
from ..protocol.version import PROTOCOL, __version__
from ..protocol.wire import channels
from ..protocol.wire.codec import Decoder, check_version, encode
from ..protocol.wire.export import (
    BeginPass,
    CloseRunMessage,
    ExporterAlive,
    ExportFailed,
    FailedRows,
    FillRows,
    Opened,
    OpenRefused,
    OpenRunMessage,
    PassRefused,
    Record,
    Rows,
    SourceRead,
    ToExporter,
)
from .export_runtime import ExportRuntime
from .run_directory.owned_directory import RunDirectory

ALIVE_MS = 1_000
T = TypeVar("T")


class ExporterLoop:
    """Takes the coordinator's messages, and sends it reports and signs of life."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = channels.bind(self._context, zmq.PAIR, endpoint)
        self._decoder: Decoder[ToExporter] = Decoder(ToExporter)
        self._runtime: ExportRuntime | None = None
        self._mirror: Mirror | None = None
        """Of a run directory in object storage: commits may take minutes there."""
        self._told = time.monotonic()

    def run(self) -> int:
        """Serve the run to its end; return the exit code."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(ALIVE_MS))
            self._alive()
            if self._runtime is not None and self._runtime.wake_fd in ready:
                for report in self._runtime.take():
                    self._send(report)
            if self._socket not in ready:
                continue
            head, *frames = self._socket.recv_multipart(copy=False)
            match self._decoder.decode(head.buffer):
                case OpenRunMessage() as message:
                    if not self._open(message):
                        return 0
                    assert self._runtime is not None, "just opened"
                    poller.register(self._runtime.wake_fd, zmq.POLLIN)
                case CloseRunMessage() as message:
                    self._close(message)
                    return 0
                case message:
                    try:
                        self._work(message, frames)
                    except EmbedfleetError as error:
                        self._send(ExportFailed(f"{self._where()}: {error}"))
                    except OSError as error:
                        self._send(ExportFailed(describe_write_failure(error, self._where())))

    def close(self) -> None:
        """Send the last messages, then free the sockets."""
        self._socket.close(linger=2_000)
        self._context.term()

    def _open(self, message: OpenRunMessage) -> bool:
        try:
            check_version("the coordinator", message.protocol, message.build, PROTOCOL, __version__)
            directory = self._take(message)
            runtime = ExportRuntime(directory, message.run)
        except EmbedfleetError as error:
            self._send(OpenRefused(type(error).__name__, str(error)))
            return False
        except OSError as error:
            self._send(OpenRefused("RunDirectoryError", f"--out {message.directory}: {error}"))
            return False
        self._runtime = runtime
        self._send(Opened(PROTOCOL, __version__, runtime.committed, runtime.fingerprints, directory.spec.preprocessing))
        return True

    def _take(self, message: OpenRunMessage) -> RunDirectory:
        """Open the directory, which may have to read the source again."""
        root = Path(message.directory)
        self._mirror = follow_spool(root)
        return self._waited("open", lambda: RunDirectory(root, message.spec, restart=message.restart)).result()

    def _waited(self, name: str, work: Callable[[], T]) -> Future[T]:
        """Do what may take long in a thread, and send signs of life until it has ended."""
        with ThreadPoolExecutor(1, name) as pool:
            working = pool.submit(work)
            while not wait([working], ALIVE_MS / 1000).done:
                self._alive()
        return working

    def _patiently(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do what waits for commits."""
        if self._mirror is None:
            work(*arguments)
        else:
            self._waited("work", lambda: work(*arguments)).result()

    def _work(self, message: BeginPass | SourceRead | Rows | FailedRows | FillRows | Record, frames: list[Any]) -> None:
        runtime = self._runtime
        assert runtime is not None, "the coordinator opens the run first"
        match message:
            case BeginPass():
                try:
                    self._patiently(runtime.begin_pass, message.number, message.fingerprint, message.placement)
                except EmbedfleetError as error:
                    self._send(PassRefused(message.number, str(error)))
            case SourceRead():
                runtime.source_read(message)
            case Rows():
                self._patiently(runtime.add, message, [frame.buffer for frame in frames])
            case FailedRows():
                self._patiently(runtime.give_up, message)
            case FillRows():
                self._patiently(runtime.fill, message)
            case Record():
                runtime.record(message)

    def _close(self, message: CloseRunMessage) -> None:
        """End the run; publishing may take long."""
        runtime = self._runtime
        assert runtime is not None, "the coordinator opens the run first"
        closing = self._waited("close", lambda: runtime.close(message))
        for report in runtime.take():
            self._send(report)
        error = closing.exception()
        if error is not None:  # a full disk, a broken shard, any other
            reason = str(error) if isinstance(error, EmbedfleetError) else describe_write_failure(error, self._where())
            self._send(ExportFailed(reason))
        else:
            self._send(closing.result())

    def _where(self) -> str:
        return str(self._runtime.root) if self._runtime is not None else "the run directory"

    def _alive(self) -> None:
        now = time.monotonic()
        if now - self._told >= ALIVE_MS / 1000:
            self._told = now
            self._send(ExporterAlive())

    def _send(self, message: msgspec.Struct) -> None:
        self._socket.send(encode(message))
