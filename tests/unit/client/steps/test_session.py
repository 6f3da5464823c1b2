from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, cast

import pytest
from embedfleet.client.steps.session import (
    POLL_SECONDS,
    STOP_SECONDS,
    Interrupted,
    Session,
)
from embedfleet.protocol.errors import RunFailed, Unreachable

STUBBORN = """
import pathlib, signal, sys, threading
signal.signal(signal.SIGINT, lambda *_: pathlib.Path(sys.argv[1], "asked").touch())
pathlib.Path(sys.argv[1], "up").touch()
while True:
    threading.Event().wait(0.01)
"""


class Received(list[int]):
    """Signals as a test sends them: the first once the child is up, the second once it was asked to end."""

    def __init__(self, folder: Path, first: int, second: int | None) -> None:
        super().__init__()
        self._folder, self._first, self._second = folder, first, second

    def __len__(self) -> int:
        wanted = [self._first] if (self._folder / "up").exists() else []
        if self._second is not None and (self._folder / "asked").exists():
            wanted.append(self._second)
        self[:] = wanted
        return super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0


@pytest.mark.parametrize(
    ("first", "second", "grace"),
    [(signal.SIGINT, signal.SIGINT, 25.0), (signal.SIGTERM, signal.SIGTERM, 25.0), (signal.SIGTERM, None, 0.5)],
)
def test_a_process_that_does_not_end_is_killed_at_a_second_signal_or_after_the_grace(
    tmp_path, monkeypatch, first, second, grace
):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    unused = cast(Any, None)
    session = Session(unused, unused, Received(tmp_path, first, second), grace=grace)
    start = time.monotonic()
    with pytest.raises(Interrupted):
        session.process("stubborn", [str(tmp_path)])
    assert (tmp_path / "asked").exists()
    assert time.monotonic() - start < STOP_SECONDS - 10 * POLL_SECONDS


SIGNALLED = """
import os, pathlib, signal, sys
from embedfleet.exporter.command_line import serve
def work():
    pathlib.Path(sys.argv[1], "up").touch()
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        signal.pause()
sys.exit(serve(work))
"""


def test_a_process_that_is_signalled_beside_us_is_interrupted(tmp_path, monkeypatch):
    """A scheduler sends SIGTERM to every process of a job."""
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    unused = cast(Any, None)
    session = Session(unused, unused, Received(tmp_path, signal.SIGTERM, None))
    with pytest.raises(Interrupted):
        session.process("signalled", [str(tmp_path)])
    assert session.exit_code == 143


def test_a_process_that_fails_once_a_signal_came_was_interrupted(tmp_path, monkeypatch):
    (tmp_path / "failing.py").write_text("import pathlib, sys; pathlib.Path(sys.argv[1], 'up').touch(); sys.exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    unused = cast(Any, None)
    with pytest.raises(Interrupted):
        Session(unused, unused, Received(tmp_path, signal.SIGINT, None)).process("failing", [str(tmp_path)])


class Silent:
    """A coordinator that answers nothing: as its client sees it, and as its process."""

    def __init__(self, code: int | None) -> None:
        self._code = code

    def submit(self, *_: Any, **__: Any) -> str:
        raise Unreachable("no coordinator answers at ipc:///x; start one with: embedfleet serve --bind ipc:///x")

    def exit_code(self) -> int | None:
        return self._code

    def tail(self) -> str:
        return "its last words"


@pytest.mark.parametrize(("code", "what"), [(-9, "ended (killed by signal 9)"), (None, "does not answer")])
def test_a_coordinator_that_was_lost_between_two_runs_of_a_command(tmp_path, code, what):
    """Nobody can start another one in its place: the command is given again."""
    silent = cast(Any, Silent(code))
    with pytest.raises(RunFailed) as caught:
        Session(silent, silent, []).follow(cast(Any, None), tmp_path)
    said = str(caught.value)
    assert what in said
    assert "the same command resumes" in said
    assert "serve" not in said


class Tracing:
    """A client whose coordinator makes spans: each run's is named as the run."""

    def __init__(self) -> None:
        self.above: list[str] = []
        self.traceparent = ""

    def submit(self, *_: Any, traceparent: str, **__: Any) -> str:
        self.above.append(traceparent)
        self.traceparent = f"r{len(self.above)}"
        return self.traceparent


def test_runs_are_below_the_first_one_also_while_that_goes_on(tmp_path: Path) -> None:
    client, nobody = Tracing(), cast(Any, None)
    session = Session(cast(Any, client), nobody, [])
    for _ in range(3):
        session.submit(nobody, tmp_path)
    assert client.above == ["", "r1", "r1"]
