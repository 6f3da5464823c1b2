"""A run's parts held together: what waits for a disk or a process is not done on the loop's thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.coordinator.core.actions import FillSegment
from embedfleet.coordinator.core.events import RunFailed, SegmentSpooled
from embedfleet.coordinator.runs.batch_runner import BatchRunner
from embedfleet.protocol.errors import DamagedChunks, SpecMismatch
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
from embedfleet.protocol.wire.export import BeginPass, FillRows, OpenRunMessage, Record, SourceRead
from embedfleet.protocol.wire.run_options import DEFAULTS

SPEC = RunSpec(source="/s.jsonl", passes=(PassSpec(vector="dense-a", kind="dense", model="fake:8"),), index="none")


class Exporter:
    """A process that ends when the test says so."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.is_ended = False
        self.gone = threading.Event()

    def send(self, message: Any, _frames: Any = None) -> None:
        self.sent.append(message)

    def end(self) -> None:
        self.is_ended = True

    def wait(self) -> None:
        assert self.gone.wait(10)


class Case:
    """A runner with a background that the test plays, and what it hands to the pool."""

    def __init__(self, out: Path) -> None:
        self.layout = RunLayout(out)
        self.emitted: list[Any] = []
        self.exporters: list[Exporter] = []
        self.calls: list[Callable[[], None]] = []
        self.notes: list[Callable[[], None]] = []
        background: Any = SimpleNamespace(post=self._post, tell=lambda _run, act: self.notes.append(act))
        start: Any = self._start
        self.runner = BatchRunner(
            "r",
            SPEC,
            out,
            restart=True,
            options=DEFAULTS,
            background=background,
            emit=self.emitted.append,
            start_exporter=start,
        )

    def _start(self) -> Exporter:
        self.exporters.append(Exporter())
        return self.exporters[-1]

    def _post(self, _run: str, call: Callable[[], Any], then: Callable[[Future[Any]], None]) -> None:
        def answer() -> None:
            future: Future[Any] = Future()
            future.set_result(call())
            then(future)

        self.calls.append(answer)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_run_that_ends_does_not_wait_for_its_exporter(case: Case) -> None:
    case.runner.open()
    wait = case.runner.finish()
    (exporter,) = case.exporters
    assert exporter.is_ended, "it was killed, and not waited for"
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert waiting.is_alive()
    exporter.gone.set()
    waiting.join(10)
    assert not waiting.is_alive()
    assert case.runner.export.process is None


def test_damaged_chunks_are_set_aside_beside_the_loop_once(case: Case) -> None:
    path = case.layout.chunk_segment(3)
    path.parent.mkdir()
    path.write_bytes(b"torn")
    for _ in range(2):  # two passes meet it
        case.runner.fail(DamagedChunks("no matter", 3, "torn"))
    assert path.exists()
    assert case.emitted == []
    (set_aside,) = case.calls
    set_aside()
    assert case.layout.damaged_chunk_segment(3).exists()
    (failed,) = case.emitted
    assert isinstance(failed, RunFailed)
    assert "was damaged (torn) and is set aside" in failed.message


@pytest.mark.parametrize(
    ("error", "kind"), [(SpecMismatch("why"), "SpecMismatch"), (OSError("why"), "RunFailed")], ids=["ours", "system"]
)
def test_another_error_is_the_runs_end_at_once(case: Case, error: Exception, kind: str) -> None:
    case.runner.fail(error)
    assert case.emitted == [RunFailed("r", kind, "why")]


def test_what_other_threads_report_is_taken_on_the_loops(case: Case) -> None:
    spooled = SegmentSpooled("r", 0, rows=5, tokens=50)
    case.runner.intake._report(spooled)
    case.runner.settings.fit._report(DamagedChunks("no matter", 0, "torn"))
    assert (case.emitted, case.runner.report.rows) == ([], {})
    counted, damaged = case.notes
    counted()
    assert (case.emitted, case.runner.report.rows) == ([spooled], {0: 5})
    with pytest.raises(DamagedChunks):
        damaged()


def test_an_exporter_hears_of_events_once_it_was_asked_to_open(case: Case) -> None:
    case.runner.export.prepare()
    case.runner.telemetry.event("early")
    (exporter,) = case.exporters
    assert exporter.sent == []
    case.runner.open()
    assert len(case.exporters) == 1
    (opening,) = exporter.sent
    assert isinstance(opening, OpenRunMessage)
    assert opening.restart
    case.runner.export.opened()
    (early,) = exporter.sent[1:]
    assert isinstance(early, Record)
    case.runner.export.drop()
    case.runner.open()
    assert not case.exporters[1].sent[0].restart, "the first one has started over"
    assert not any(isinstance(one, SourceRead) for one in case.exporters[1].sent)


def test_a_segment_is_filled_by_one_message_after_its_pass_has_begun(case: Case) -> None:
    case.runner.open()
    case.runner._reported(SegmentSpooled("r", 0, rows=5, tokens=50))
    case.runner._reported(SegmentSpooled("r", 1, rows=4, tokens=40))
    for segment in (0, 1):
        case.runner.fill(FillSegment("r", 0, segment, "no such model"))
    begun, *filled = case.exporters[0].sent[1:]
    assert isinstance(begun, BeginPass)
    assert filled == [FillRows(0, 0, 5, "no such model"), FillRows(0, 1, 4, "no such model")]
