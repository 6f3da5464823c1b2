"""The real service: the command line as a subprocess, with whatever it starts."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pytest
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.worker.encoders.fake import FakeEncoder

from ..forked_commands import ForkedCommands
from ..object_store.server import Bucket, StoreServer

COMMAND = str(Path(sys.executable).with_name("embedfleet"))
LIMIT = 240.0
"""Seconds for one command."""


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


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one error message; fails where there is none, or a traceback."""
        assert "Traceback" not in self.err, self.err
        assert not self.out, self.out
        found = [line for line in self.err.splitlines() if "error:" in line]
        assert len(found) == 1, self.err
        return found[0]


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedCommands]:
    made = ForkedCommands()
    yield made
    made.close()


@pytest.fixture(scope="session")
def cli(forked: ForkedCommands) -> Callable[..., Done]:
    """Runs `embedfleet ARGS` to its end, with `stdin` in a pipe; `code` is what it has to end with."""
    return _caller(forked)


@pytest.fixture(scope="session")
def model_cli() -> Iterator[Callable[..., Done]]:
    """As `cli`, for models that torch computes. No hub is within reach."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ef-hub-") as empty:
        patch.setenv("HF_HOME", empty)  # read when the libraries are imported
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        made = ForkedCommands(models=True)
        patch.undo()
        yield _caller(made)
        made.close()


def _caller(forked: ForkedCommands) -> Callable[..., Done]:
    def call(
        *args: str | Path,
        code: int = 0,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        seconds: float = LIMIT,
    ) -> Done:
        with _piped(stdin) as descriptor:
            done = _forked(forked, args, descriptor, cwd, seconds)
        assert done.code == code, f"exit code {done.code}, not {code}: {done.err}"
        return done

    return call


@contextlib.contextmanager
def _piped(data: bytes | None) -> Generator[int]:
    """A descriptor to read `data` from; nothing is read from it without."""
    reader, writer = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writer, "wb") as pipe:
            pipe.write(data or b"")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()


def _forked(forked: ForkedCommands, args: Sequence[str | Path], stdin: int, cwd: Path | None, seconds: float) -> Done:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        streams = [stdin, out.fileno(), err.fileno()]
        code = forked.call([str(one) for one in args], streams, cwd, seconds)
        out.seek(0)
        err.seek(0)
        return Done(code, out.read(), err.read().decode())


class Started:
    """A command that goes on. `tree` remembers every process that was seen below it."""

    def __init__(
        self, forked: ForkedCommands, args: Sequence[str | Path], waiting: ModuleType, stdin: Any = subprocess.DEVNULL
    ) -> None:
        self._waiting = waiting
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        reader, writer = os.pipe() if stdin == subprocess.PIPE else (None, None)
        with open(os.devnull, "r+b") as nothing:
            given = nothing.fileno() if stdin == subprocess.DEVNULL else stdin.fileno() if reader is None else reader
            self.process = forked.start([str(one) for one in args], [given, nothing.fileno(), self._errors.fileno()])
        if reader is not None and writer is not None:
            os.close(reader)
            self.process.stdin = open(writer, "wb")  # noqa: SIM115 - closed in close()
        self.tree: dict[int, psutil.Process] = {}

    @property
    def err(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def look(self) -> dict[int, psutil.Process]:
        """The processes below it, those of earlier looks included."""
        self.tree |= {one.pid: one for one in self._waiting.descendants(self.process.pid)}
        return self.tree

    def child(self, module: str) -> psutil.Process:
        """The one process below that runs `python -m MODULE`."""

        def find() -> list[psutil.Process]:
            return [one for one in self.look().values() if not self._waiting.is_gone(one) and module in _arguments(one)]

        found = self._waiting.eventually(find, what=module)
        assert len(found) == 1, found
        return found[0]

    def signal(self, number: signal.Signals) -> None:
        self.look()
        self.process.send_signal(number)

    def wait(self, code: int | None = None, seconds: float = LIMIT) -> int:
        """Wait for its end; the exit code, which has to be `code`."""
        found = self.process.wait(seconds)
        assert code is None or found == code, f"exit code {found}, not {code}: {self.err}"
        return found

    def all_gone(self, seconds: float) -> None:
        """Everything seen below it has ended."""
        self._waiting.all_gone(self.tree.values(), seconds)

    def close(self) -> None:
        self.look()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for one in self.tree.values():
            if not self._waiting.is_gone(one):
                one.kill()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self._errors.close()


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def start(forked: ForkedCommands, waiting: ModuleType) -> Iterator[Callable[..., Started]]:
    """Starts `embedfleet ARGS` as `cli` does; whatever of it still runs after the test is killed."""
    started: list[Started] = []

    def begin(*args: str | Path, **options: Any) -> Started:
        started.append(Started(forked, args, waiting, **options))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for sockets: its path is short, and only its owner may enter."""
    made = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def store_server() -> Iterator[StoreServer]:
    """An S3 server on loopback, with a proxy in front of it."""
    server = StoreServer()
    yield server
    server.close()


@pytest.fixture
def bucket(store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket there, which commands reach by the environment; no faults are planned yet."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in store_server.environment.items():
        monkeypatch.setenv(name, value)
    found = Bucket(store_server)
    yield found
    found.proxy.faults.clear()


def write_corpus(path: Path, texts: Sequence[str]) -> Path:
    """JSON lines with ids c0, c1, …"""
    lines = (json.dumps({"id": f"c{row}", "text": text}) for row, text in enumerate(texts))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def corpus_of() -> Callable[[Path, Sequence[str]], Path]:
    return write_corpus


@pytest.fixture(scope="session")
def many_texts() -> list[str]:
    """40,000 short texts: three segments, ten batches."""
    return [f"row {row} of many" for row in range(40_000)]


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, many_texts: list[str]) -> Path:
    """A corpus of `many_texts`."""
    return write_corpus(tmp_path_factory.mktemp("many") / "corpus.jsonl", many_texts)


@pytest.fixture(scope="session")
def fake_vectors() -> Callable[[Sequence[str], int], np.ndarray]:
    """The vectors that the fake model of `dim` dimensions has for texts."""

    def compute(texts: Sequence[str], dim: int) -> np.ndarray:
        encoder = FakeEncoder(PassSpec(vector="v", kind="dense", model=f"fake:{dim}"))
        return encoder.compute(encoder.prepare(texts), np.arange(len(texts), dtype=np.int32))

    return compute


@pytest.fixture(scope="session")
def read_events() -> Callable[[Path], list[dict[str, Any]]]:
    """The events of a run directory so far; a line that is being written is left out."""

    def read(out: Path) -> list[dict[str, Any]]:
        path = out / "events.jsonl"
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in lines]

    return read
