"""WorkerProcess: a worker, and the coordinator's side of its work link."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import zmq

from ...protocol.errors import ProtocolError, describe_exit, error_from_name
from ...protocol.host.pinning import pinning
from ...protocol.process.child import ChildProcess
from ...protocol.process.socket_folder import PREFIX, sweep, take_socket_folder
from ...protocol.spec.run_spec import PassSpec
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire import arrays, channels
from ...protocol.wire.arrays import Array
from ...protocol.wire.codec import Decoder, check_version, encode
from ...protocol.wire.devices import Device
from ...protocol.wire.result_shapes import check_result
from ...protocol.wire.work import (
    EXIT_STARVED,
    Alive,
    BatchFailedMessage,
    BatchMessage,
    Broken,
    Hydrate,
    Mitigation,
    Ready,
    Result,
    Staged,
    StageMessage,
    ToCoordinator,
    WorkerHelloMessage,
    worker_identity,
)
from ..steps.private_coordinator import short_folder

WORKER, EPOCH = "encode", 1
POLL_MS = 100
HELLO_SECONDS, STAGE_SECONDS, HYDRATE_SECONDS = 60.0, 3600.0, 300.0
SILENT_SECONDS = 120.0
"""Silence after which a worker counts as stuck. It sends a sign of life each second, but not while it loads libraries."""
MOST_TAIL = 500
"""Characters of a worker's last output that a message shows."""


class WorkerLost(Exception):
    """The worker has ended, hangs, or sent an unknown message. `innocent`: no batch is the cause."""

    def __init__(self, reason: str, *, innocent: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.innocent = reason, innocent


class Loaded(msgspec.Struct, frozen=True):
    """A worker's messages on the model that it has loaded."""

    staged: Staged
    ready: Ready


class WorkerProcess:
    """One worker on one device. Use it in one thread only: the worker ends with that thread. Close it after use.

    `batch_timeout` is how many seconds a batch may make no progress, `load_timeout` how many the model may take to load;
    None for the usual limits.
    """

    def __init__(self, device: Device, *, batch_timeout: float, load_timeout: float | None) -> None:
        self._batch_timeout, self._load_timeout = batch_timeout, load_timeout
        parent = short_folder()
        sweep(parent)
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent)
        self._lock: int | None = take_socket_folder(
            Path(self._folder.name)
        )  # held until the process ends, so that no other process removes the folder
        endpoint = f"ipc://{self._folder.name}/work"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = channels.bind(self._context, zmq.ROUTER, endpoint)
        self._decoder: Decoder[ToCoordinator] = Decoder(ToCoordinator)
        self._rows: dict[int, int] = {}
        """Rows of each batch in flight."""
        self._outputs: list[Any] = []
        self._heard = self._moved = time.monotonic()
        self._progress = -1
        self._process = ChildProcess(
            "embedfleet.worker",
            [
                f"--endpoint={endpoint}",
                f"--worker={WORKER}",
                f"--epoch={EPOCH}",
                f"--kind={device.kind}",
                f"--uuid={device.uuid}",
                f"--threads={device.threads}",
            ],
            environment=pinning(device.kind, device.uuid, device.threads),
        )

    def load(self, spec: PassSpec) -> Loaded:
        """Load the model and move it to the device. ModelError if it cannot be used, WorkerLost if the process ends."""
        self._await(WorkerHelloMessage, HELLO_SECONDS, "starts")
        self._send(StageMessage(spec))
        staged = self._await(Staged, self._load_timeout or STAGE_SECONDS, "loads its model")
        fingerprint = staged.fingerprint
        self._outputs = [(one, fingerprint.dim_of(one.form)) for one in spec.outputs]
        self._send(Hydrate())
        return Loaded(
            staged, self._await(Ready, self._load_timeout or HYDRATE_SECONDS, "moves its model to the device")
        )

    def send(self, batch: int, rows: int, texts: Mapping[str, Array]) -> None:
        """Send a batch: `offsets` int32 (rows+1) into `utf8` bytes."""
        headers, frames = arrays.pack(texts)
        if not self._rows:
            self._moved = time.monotonic()
        self._rows[batch] = rows
        self._send(BatchMessage(batch, EPOCH, rows, headers), frames)

    def receive(self) -> tuple[Result, dict[str, Array]] | BatchFailedMessage:
        """The next result with its arrays, or the failure of a batch. WorkerLost if there will be none."""
        while True:
            found = self._next()
            if found is None:
                if time.monotonic() - self._moved > self._batch_timeout:
                    raise WorkerLost(f"it made no progress for {self._batch_timeout:g} s")
                continue
            message, frames = found
            if isinstance(message, Result):
                rows = self._rows.pop(message.batch, 0)
                self._moved = time.monotonic()
                try:
                    check_result(message, frames, rows, self._outputs)
                    return message, arrays.unpack(message.arrays, frames)
                except ProtocolError as error:
                    raise WorkerLost(str(error)) from error
            if isinstance(message, BatchFailedMessage):
                self._rows.pop(message.batch, None)
                self._moved = time.monotonic()
                return message
            if not isinstance(message, Mitigation):
                raise WorkerLost(f"it sent a {type(message).__name__} while it computes")

    def close(self) -> None:
        """End the worker. Its batches are lost."""
        self._process.close()
        self._socket.close(linger=0)
        self._context.term()
        self._folder.cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _await(self, kind: type[Any], seconds: float, doing: str) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self._next()
            if found is None:
                continue
            message, _ = found
            if isinstance(message, WorkerHelloMessage):
                check_version("the worker", message.protocol, message.build, PROTOCOL, __version__)
            if isinstance(message, kind):
                return message
            if isinstance(message, Broken):
                raise error_from_name(message.kind, message.message)
        raise WorkerLost(f"it {doing} for more than {seconds:g} s")

    def _next(self) -> tuple[Any, list[Any]] | None:
        """The next message that is no sign of life; None if there is none now. WorkerLost if there will be none."""
        if not self._socket.poll(POLL_MS):
            code = self._process.exit_code()
            if code is not None and not self._socket.poll(0):
                raise self._ended(code)
            if time.monotonic() - self._heard > SILENT_SECONDS:
                raise WorkerLost(f"it was silent for {SILENT_SECONDS:g} s")
            return None
        _, head, *frames = self._socket.recv_multipart()
        self._heard = time.monotonic()
        try:
            message = self._decoder.decode(head)
        except ProtocolError as error:
            raise WorkerLost(str(error)) from error
        if not isinstance(message, Alive):
            return message, frames
        if message.progress != self._progress:
            self._progress, self._moved = message.progress, self._heard
        return None

    def _ended(self, code: int) -> WorkerLost:
        last = self._process.tail().rsplit("\n", 1)[-1][-MOST_TAIL:]
        return WorkerLost(f"{describe_exit(code)}{': ' if last else ''}{last}", innocent=code == EXIT_STARVED)

    def _send(self, message: msgspec.Struct, frames: list[Any] | None = None) -> None:
        try:
            self._socket.send_multipart([worker_identity(WORKER, EPOCH), encode(message), *(frames or [])], copy=False)
        except zmq.ZMQError as error:  # its connection is gone
            code = self._process.wait(1.0)
            raise (
                self._ended(code) if code is not None else WorkerLost(f"nothing can be sent to it: {error}")
            ) from error
