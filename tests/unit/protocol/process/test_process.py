"""ChildProcess and the lifeline, with children of a few lines each."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedfleet.protocol.errors import EmbedfleetError, UsageError
from embedfleet.protocol.process import lifeline
from embedfleet.protocol.process.child import TAIL_BYTES, ChildProcess, error_text, exit_error

SECONDS = 20.0
Start = Callable[..., ChildProcess]

FOREVER = "import sys, threading\nprint('up', flush=True)\nthreading.Event().wait()"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the given code as a module of its own; ends it after the test."""
    started: list[ChildProcess] = []

    def begin(code: str, *args: str, **options: Any) -> ChildProcess:
        module = f"embedfleet_child_{len(started)}"
        (tmp_path / f"{module}.py").write_text(code)
        options["environment"] = {"PYTHONPATH": str(tmp_path), **options.get("environment", {})}
        child = ChildProcess(module, args, **options)
        started.append(child)
        return child

    yield begin
    for child in started:
        child.close()


def test_exit_code_and_output_of_a_child(start: Start) -> None:
    child = start("import sys\nprint('out', *sys.argv[1:])\nprint('err', file=sys.stderr)\nsys.exit(7)", "a", "b")
    assert child.wait(SECONDS) == 7
    assert child.exit_code() == 7
    assert sorted(child.tail().splitlines()) == ["err", "out a b"]


def test_its_peak_is_known_while_it_runs(start: Start) -> None:
    child = start(FOREVER)
    assert child.peak_bytes() > 0
    child.kill()
    assert child.wait(SECONDS) == -signal.SIGKILL
    assert child.peak_bytes() == 0


def test_the_tail_is_the_end(start: Start) -> None:
    child = start(f"print('x' * {2 * TAIL_BYTES}, 'end')")
    child.wait(SECONDS)
    assert child.tail().endswith("x end")
    assert len(child.tail()) < TAIL_BYTES


@pytest.mark.parametrize(
    ("end", "number"),
    [
        (ChildProcess.terminate, signal.SIGTERM),
        (ChildProcess.interrupt, signal.SIGINT),
        (ChildProcess.kill, signal.SIGKILL),
    ],
)
def test_each_way_to_end_a_child(start: Start, end: Callable[[ChildProcess], None], number: signal.Signals) -> None:
    child = start(f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n{FOREVER}")
    _until_up(child)
    assert child.exit_code() is None
    end(child)
    assert child.wait(SECONDS) == -number
    end(child)  # of one that has ended: nothing happens


def test_wait_gives_up(start: Start) -> None:
    assert start(FOREVER).wait(0.01) is None


def test_the_pidfd_becomes_readable_at_the_end(start: Start) -> None:
    child = start(FOREVER)
    assert child.pidfd is not None
    assert select.select([child.pidfd], [], [], 0)[0] == []
    child.kill()
    assert select.select([child.pidfd], [], [], SECONDS)[0] == [child.pidfd]


def test_close_kills_reaps_and_may_be_called_again(start: Start) -> None:
    child = start(FOREVER)
    descriptors = psutil.Process().num_fds()
    child.close()
    assert child.exit_code() == -signal.SIGKILL
    assert psutil.Process().num_fds() < descriptors
    child.close()
    assert child.tail() == ""


def test_a_child_has_a_session_of_its_own(start: Start) -> None:
    child = start(FOREVER)
    _until_up(child)
    assert os.getsid(child.pid) == child.pid


def test_the_environment_is_ours_and_what_is_added(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDFLEET_TEST_A", "a")
    monkeypatch.setenv("EMBEDFLEET_TEST_B", "b")
    code = "import os\nprint(os.environ['EMBEDFLEET_TEST_A'], os.environ['EMBEDFLEET_TEST_B'])"
    child = start(code, environment={"EMBEDFLEET_TEST_B": "ours"})
    assert child.wait(SECONDS) == 0
    assert child.tail() == "a ours"


@pytest.mark.parametrize(
    ("variable", "set_by_user", "seen"),
    [
        ("OPENBLAS_THREAD_TIMEOUT", None, "4"),
        ("OPENBLAS_THREAD_TIMEOUT", "26", "26"),
        ("OMP_WAIT_POLICY", None, "passive"),
        ("OMP_WAIT_POLICY", "active", "active"),
    ],
)
def test_threads_sleep_at_once_unless_the_user_says_otherwise(
    start: Start, monkeypatch: pytest.MonkeyPatch, variable: str, set_by_user: str | None, seen: str
) -> None:
    if set_by_user is None:
        monkeypatch.delenv(variable, raising=False)
    else:
        monkeypatch.setenv(variable, set_by_user)
    child = start(f"import os\nprint(os.environ['{variable}'])")
    assert child.wait(SECONDS) == 0
    assert child.tail() == seen


def test_kept_descriptors_stay_open_in_the_child(start: Start) -> None:
    reader, writer = os.pipe()
    child = start("import os, sys\nos.write(int(sys.argv[1]), b'kept')", str(writer), keep_fds=[writer])
    os.close(writer)
    assert child.wait(SECONDS) == 0
    assert os.read(reader, 10) == b"kept"
    os.close(reader)


def test_a_child_ends_when_its_parent_is_killed(start: Start) -> None:
    grandchild = f"from embedfleet.protocol.process import lifeline\nlifeline.hold()\n{FOREVER}"
    parent = start(
        "import pathlib, threading\n"
        "from embedfleet.protocol.process.child import ChildProcess\n"
        f"pathlib.Path(__file__).with_name('embedfleet_grandchild.py').write_text({grandchild!r})\n"
        "child = ChildProcess('embedfleet_grandchild', [])\n"
        "while 'up' not in child.tail(): child.wait(0.01)\n"
        "print(child.pid, flush=True)\n"
        "threading.Event().wait()"
    )
    orphan = psutil.Process(int(_until_said(parent)))
    parent.kill()
    assert psutil.wait_procs([orphan], timeout=SECONDS)[1] == []


def test_a_child_that_holds_on_ends_when_the_pipe_does(start: Start) -> None:
    without_signal = "import sys\nsys.platform = 'other'\n"
    child = start(f"{without_signal}from embedfleet.protocol.process import lifeline\nlifeline.hold()\n{FOREVER}")
    _until_up(child)
    os.close(child._writer)
    child._writer = -1
    assert child.wait(SECONDS) == lifeline.EXIT_ORPHANED


def test_a_process_that_nobody_holds_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lifeline.PARENT_VARIABLE, raising=False)
    monkeypatch.delenv(lifeline.PIPE_VARIABLE, raising=False)
    lifeline.hold()


def test_reading_what_a_child_wrote_does_not_move_where_it_writes(start: Start) -> None:
    child = start("import os\nfor _ in range(3000):\n    os.write(2, b'0123456789')\n")
    while child.wait(0.0) is None:
        child.tail()
    assert child._errors is not None
    child._errors.seek(0)
    assert child._errors.read() == b"0123456789" * 3000


def _until_up(child: ChildProcess) -> None:
    assert _until_said(child).startswith("up")


def _until_said(child: ChildProcess) -> str:
    """What the child wrote first."""
    for _ in range(int(SECONDS / 0.01)):
        if child.tail() or child.wait(0.01) is not None:
            break
    return child.tail()


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        ("a warning\nembedfleet: error: /run: IO error: disk full; make room", "/run: IO error: disk full; make room"),
        ("embedfleet: error: a\nembedfleet: error: b: embedfleet: error: c", "b: embedfleet: error: c"),
        ("embedfleet: error: two\nlines", "two\nlines"),
        ("killed by the host", "killed by the host"),
        ("", ""),
    ],
)
def test_the_error_of_a_process_is_what_follows_its_mark(tail: str, error: str) -> None:
    assert error_text(tail) == error


@pytest.mark.parametrize(("code", "kind"), [(1, EmbedfleetError), (2, UsageError)])
def test_the_error_of_a_process_is_in_its_own_words(code: int, kind: type[EmbedfleetError]) -> None:
    found = exit_error(code, "a warning\nembedfleet: error: no space", "it ended")
    assert (type(found), str(found)) == (kind, "no space")
    assert str(exit_error(code, "", "it ended")) == "it ended"
