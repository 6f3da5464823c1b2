"""One real process, with the test as its peer: the peers, and the folders and processes that they use."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
import zmq
from embedfleet.protocol.process.child import ChildProcess
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.version import PROTOCOL, __version__
from embedfleet.protocol.wire import arrays, channels
from embedfleet.protocol.wire.codec import Decoder, encode
from embedfleet.protocol.wire.export import ExporterAlive, OpenRunMessage, ScrubbedMessage
from embedfleet.protocol.wire.export import ToCoordinator as FromExporter
from embedfleet.protocol.wire.work import (
    Alive,
    BatchMessage,
    Hydrate,
    Ready,
    Staged,
    StageMessage,
    WorkerHelloMessage,
    worker_identity,
)
from embedfleet.protocol.wire.work import ToCoordinator as FromWorker

from ..forked_commands import ForkedCommands

SECONDS = 20.0
"""For anything that a healthy process does at once; two busy cores may take their time."""


def _load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def waiting() -> ModuleType:
    """The module `tests/waiting.py`."""
    return _load("embedfleet_test_waiting", Path(__file__).parents[1] / "waiting.py")


@pytest.fixture(scope="session")
def run_files() -> ModuleType:
    """The module `tests/run_files.py`."""
    return _load("embedfleet_test_run_files", Path(__file__).parents[1] / "run_files.py")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for sockets: its path is short, and only its owner may enter."""
    made = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """A zmq context that takes its sockets with it."""
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedCommands]:
    made = ForkedCommands()
    yield made
    made.close()


@pytest.fixture
def start(forked: ForkedCommands) -> Iterator[Callable[..., ChildProcess]]:
    """Starts `python -m MODULE ARGS`, as a fork of a process that has imported the packages unless it is `real`; whatever still
    runs after the test is killed, with its descendants."""
    started: list[ChildProcess] = []

    def begin(module: str, *args: str, real: bool = False, **options: Any) -> ChildProcess:
        with contextlib.nullcontext() if real else forked.children():
            started.append(ChildProcess(module, args, **options))
        return started[-1]

    yield begin
    for process in started:
        below = psutil.Process(process.pid).children(recursive=True) if process.exit_code() is None else []
        process.close()
        for one in below:
            if one.is_running():
                one.kill()


class Peer:
    """One end of a link: sends messages with arrays, hears messages of the link's types."""

    def __init__(self, socket: zmq.Socket[bytes], union: Any, process: Any) -> None:
        self.socket, self.process = socket, process
        self._decoder: Decoder[Any] = Decoder(union)

    def next(self, seconds: float = SECONDS) -> tuple[Any, list[bytes]]:
        """The next message and its frames; fails after `seconds`, with what the process last wrote."""
        if not self.socket.poll(int(seconds * 1000)):
            pytest.fail(f"no message within {seconds} s; exit code {self.process.exit_code()}: {self.process.tail()}")
        frames = self.socket.recv_multipart()
        head, *rest = frames[1:] if self.socket.type == zmq.ROUTER else frames
        return self._decoder.decode(head), rest

    def exit_code(self, seconds: float = SECONDS) -> int | None:
        return self.process.wait(seconds)


class WorkerPeer(Peer):
    """The coordinator's end of the work link, with one worker behind it. Heartbeats go to `alives`."""

    name, epoch = "w7", 3

    def __init__(self, context: zmq.Context[Any], folder: Path, start: Callable[..., Any]) -> None:
        endpoint = f"ipc://{folder}/work"
        socket = channels.bind(context, zmq.ROUTER, endpoint)
        super().__init__(socket, FromWorker, start("embedfleet.worker", *self.arguments(endpoint)))
        self.alives: list[Alive] = []

    @classmethod
    def arguments(cls, endpoint: str) -> list[str]:
        about = [f"--endpoint={endpoint}", f"--worker={cls.name}", f"--epoch={cls.epoch}"]
        return [*about, "--kind=cpu", "--uuid=cpu-test-0", "--threads=1"]

    def send(self, message: Any, frames: Sequence[Any] = ()) -> None:
        self.socket.send_multipart([worker_identity(self.name, self.epoch), encode(message), *frames])

    def hear(self, kind: type[Any], seconds: float = SECONDS) -> tuple[Any, list[bytes]]:
        """The next message but heartbeats, which has to be of `kind`."""
        give_up = time.monotonic() + seconds
        while True:
            message, frames = self.next(max(0.0, give_up - time.monotonic()))
            if isinstance(message, Alive):
                self.alives.append(message)
            else:
                assert isinstance(message, kind), message
                return message, frames

    def stage(self, spec: PassSpec) -> Staged:
        """hello → stage → staged."""
        self.hear(WorkerHelloMessage)
        self.send(StageMessage(spec))
        return self.hear(Staged, 60)[0]

    def prepare(self, model: str, kind: str = "dense", **options: Any) -> Staged:
        """All the way to ready, for one model."""
        staged = self.stage(PassSpec(vector="v", kind=kind, model=model, **options))
        self.send(Hydrate())
        self.hear(Ready, 60)
        return staged

    def batch(self, number: int, texts: Sequence[str]) -> None:
        """Send a batch of texts."""
        raw = [text.encode() for text in texts]
        offsets = np.zeros(len(raw) + 1, np.int32)
        np.cumsum([len(one) for one in raw], out=offsets[1:])
        headers, frames = arrays.pack({"offsets": offsets, "utf8": np.frombuffer(b"".join(raw), np.uint8)})
        self.send(BatchMessage(number, self.epoch, len(raw), headers), frames)

    def result(self, kind: type[Any], seconds: float = SECONDS) -> tuple[Any, dict[str, Any]]:
        """The next message but heartbeats, with its arrays."""
        message, frames = self.hear(kind, seconds)
        return message, arrays.unpack(message.arrays, frames)


class ExporterPeer(Peer):
    """The coordinator's end of the export link, with one exporter behind it."""

    def __init__(self, context: zmq.Context[Any], folder: Path, start: Callable[..., ChildProcess], link: str) -> None:
        endpoint = f"ipc://{folder}/{link}"
        socket = channels.tune(context.socket(zmq.PAIR))
        socket.connect(endpoint)
        super().__init__(socket, FromExporter, start("embedfleet.exporter", endpoint))

    def send(self, message: Any, frames: Sequence[Any] = ()) -> None:
        self.socket.send_multipart([encode(message), *frames])

    def hear(self, kind: type[Any], seconds: float = SECONDS) -> Any:
        """The next message but signs of life, which a busy machine gives time for, and the word that all stands as it
        was written; it has to be of `kind`."""
        give_up = time.monotonic() + seconds
        passed = tuple(one for one in (ExporterAlive, ScrubbedMessage) if one is not kind)
        while isinstance(message := self.next(max(0.0, give_up - time.monotonic()))[0], passed):
            pass
        assert isinstance(message, kind), message
        return message

    def open(self, directory: Path, spec: RunSpec, *, restart: bool = False, protocol: int = PROTOCOL) -> None:
        """Ask it to take the directory."""
        self.send(OpenRunMessage(protocol, __version__, "run-1", str(directory), spec, restart))


@pytest.fixture
def worker(context: zmq.Context[Any], folder: Path, start: Callable[..., ChildProcess]) -> WorkerPeer:
    """A worker that was just started."""
    return WorkerPeer(context, folder, start)


class Grandchild:
    """A process started through another one, which may be killed alone. Answers as ChildProcess does."""

    PROGRAM = """
import signal, sys
from embedfleet.protocol.process.child import ChildProcess
child = ChildProcess(sys.argv[1], sys.argv[2:])
print(child.pid, flush=True)
signal.pause()
"""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-c", self.PROGRAM, module, *arguments]
        self.parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.parent.stdout is not None
        self.pid = int(self.parent.stdout.readline())
        self._process = psutil.Process(self.pid)

    def exit_code(self) -> int | None:
        return None if self._process.is_running() else -1

    def tail(self) -> str:
        return "its parent has its words"

    def close(self) -> None:
        if self._process.is_running():
            self._process.kill()
        with self.parent:
            self.parent.kill()


@pytest.fixture
def make_orphan(context: zmq.Context[Any], folder: Path) -> Iterator[Callable[[], tuple[WorkerPeer, int]]]:
    """Starts a worker through another process; the worker and that process's id."""
    made: list[Grandchild] = []
    peers: list[WorkerPeer] = []

    def begin(module: str, *arguments: str) -> Grandchild:
        made.append(Grandchild(module, *arguments))
        return made[-1]

    def make() -> tuple[WorkerPeer, int]:
        peers.append(WorkerPeer(context, folder, begin))
        return peers[-1], made[-1].parent.pid

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_exporter(
    context: zmq.Context[Any], folder: Path, start: Callable[..., ChildProcess]
) -> Callable[[], ExporterPeer]:
    """Starts exporters, each with a link of its own."""
    made: list[ExporterPeer] = []

    def make() -> ExporterPeer:
        made.append(ExporterPeer(context, folder, start, f"export-{len(made)}"))
        return made[-1]

    return make  # holds the peers until the context is gone


class ControlClient:
    """A client that knows pyzmq and MessagePack only."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        import msgpack

        self._msgpack = msgpack
        self.socket = context.socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self._number = 0
        self.told: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> int:
        """Send a request; its number."""
        self._number += 1
        self.socket.send(self._msgpack.packb({"type": kind, "request": self._number, **fields}))
        return self._number

    def next(self, seconds: float = SECONDS) -> dict[str, Any]:
        """The next message."""
        if not self.socket.poll(int(seconds * 1000)):
            pytest.fail(f"no message within {seconds} s")
        return self._msgpack.unpackb(self.socket.recv())

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a request; the answer to it. What watchers are told meanwhile goes to `told`."""
        number = self.send(kind, **fields)
        while (answer := self.next()).get("request") != number:
            self.told.append(answer)
        return answer

    def follow(self, run: str, seconds: float = 40.0) -> list[dict[str, Any]]:
        """Everything that is told of the run until it ends, its end last."""
        give_up = time.monotonic() + seconds
        heard = [one for one in self.told if one["run"] == run]
        while not heard or heard[-1]["type"] != "run_ended":
            message = self.next(max(0.0, give_up - time.monotonic()))
            if message.get("run") == run and "request" not in message:
                heard.append(message)
        return heard


@pytest.fixture
def connect(context: zmq.Context[Any], folder: Path) -> Callable[[], ControlClient]:
    """Connects a client to the coordinator that is bound to `folder`."""
    made: list[ControlClient] = []

    def begin() -> ControlClient:
        made.append(ControlClient(context, f"ipc://{folder}/control"))
        return made[-1]

    return begin
