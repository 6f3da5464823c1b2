"""Progress in lines, in bars and as JSON: what is shown, and what is not shown twice."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.output import messages, progress_lines
from embedfleet.client.output.event_view import EventLines
from embedfleet.client.output.messages import OutputSettings
from embedfleet.client.output.progress import make_view
from embedfleet.client.output.progress_bars import bars
from embedfleet.client.output.progress_lines import LineView
from embedfleet.client.output.progress_rows import ProgressRow, Stopwatch, count_of, left_of, rate_of
from embedfleet.protocol.wire.control import PassProgress, Progress
from rich.console import Console
from rich.spinner import Spinner


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    messages.configure(OutputSettings())


def one_pass(state: str, done: int, rows: int, *, vector: str = "dense-a", doing: str = "") -> PassProgress:
    rate = 10.0 * bool(done)
    return PassProgress(
        vector=vector,
        model="fake:4",
        rows_done=done,
        rows_committed=0,
        rows_per_second=rate,
        tokens_per_second=5 * rate,
        share_done=done / max(rows, 1),
        seconds_left=(rows - done) / rate if rate else None,
        devices=("cpu:0",) if done else (),
        in_flight=0,
        state=state,
        doing=doing,
    )


def of(*passes: PassProgress, rows: int, read: bool = True, notices: tuple[str, ...] = ()) -> Progress:
    return Progress(run="r", status="running", rows=rows, intake_done=read, rejected=0, passes=passes, notices=notices)


class Lines:
    """A view in lines with a clock in hand, and what it wrote."""

    def __init__(self, unit: str = "rows", about: str = "", *, details: bool = False) -> None:
        self.now, self.lines = 100.0, list[str]()
        self._view = LineView(unit, about, self.lines.append, details=details, now=lambda: self.now)

    def show(self, after: float, *passes: PassProgress, rows: int, read: bool = True) -> list[str]:
        """The new lines."""
        self.now += after
        before = len(self.lines)
        self._view.show(of(*passes, rows=rows, read=read))
        return self.lines[before:]


def test_a_pass_from_its_wait_to_its_end() -> None:
    lines, later = Lines(), progress_lines.PLAIN_SECONDS
    waits = "waiting for the first chunks of the source"
    assert lines.show(0, one_pass("waiting", 0, 2, doing=waits), rows=0, read=False) == [f"dense-a: {waits}"]
    assert lines.show(later, one_pass("waiting", 0, 2, doing=waits), rows=0, read=False) == []
    loads = "loading the model into memory"
    assert lines.show(1, one_pass("staging", 0, 2, doing=loads), rows=9, read=False) == [f"dense-a: {loads}"]
    assert lines.show(1, one_pass("working", 20, 40), rows=40, read=False) == [
        "dense-a: 50% 20/40+ 10.0 rows/s 0:00 ETA 0:02+"
    ]
    assert lines.show(later - 1, one_pass("working", 30, 40), rows=40) == [], "too soon"
    assert lines.show(61, one_pass("working", 30, 40), rows=40) == ["dense-a: 75% 30/40 10.0 rows/s 1:05 ETA 0:01"]
    assert lines.show(later, one_pass("working", 30, 40), rows=40) == [], "the same figures"


def test_no_figures_are_said_twice_at_the_end() -> None:
    """Between the last row and the end of a pass its state may change, and the figures do not."""
    lines, later = Lines(), progress_lines.PLAIN_SECONDS
    assert len(lines.show(0, one_pass("working", 2, 4), rows=4)) == 1
    assert lines.show(later, one_pass("working", 4, 4), rows=4) == []
    assert lines.show(0, one_pass("waiting", 4, 4), rows=4, read=True) == ["dense-a: waiting (100%, 4/4)"]
    assert lines.show(1, one_pass("staging", 4, 4), rows=4) == []
    assert lines.show(1, one_pass("done", 4, 4), rows=4) == ["dense-a: done 4 rows 10.0 rows/s 0:07"]
    assert lines.show(later, one_pass("done", 4, 4), rows=4) == []


def test_a_pass_that_ends_soon_waits_without_a_word() -> None:
    lines = Lines("queries", "queries: ", details=True)
    lines.show(0, one_pass("working", 2, 4), rows=4)
    assert lines.show(1, one_pass("waiting", 4, 4, doing="waiting for its last segments to be written"), rows=4) == []
    assert lines.show(1, one_pass("done", 4, 4), rows=4) == [
        "queries: dense-a: done 4 queries 10.0 queries/s 0:02 · 50 tokens/s · cpu:0"
    ]


def test_several_passes_have_a_line_together() -> None:
    lines = Lines()
    first, second = (
        one_pass("working", 10, 40),
        one_pass("waiting", 0, 40, vector="dense-b", doing="waiting for dense-a"),
    )
    assert lines.show(0, first, second, rows=40) == [
        "dense-a: 25% 10/40 10.0 rows/s 0:00 ETA 0:03",
        "dense-b: waiting for dense-a",
        "all passes: 12% 10/80 10.0 rows/s 0:00 ETA 0:03+",
    ]
    done = one_pass("done", 40, 40)
    assert lines.show(20, done, one_pass("working", 20, 40, vector="dense-b"), rows=40) == [
        "dense-a: done 40 rows 10.0 rows/s 0:20",
        "dense-b: 50% 20/40 10.0 rows/s 0:00 ETA 0:02",
        "all passes: 75% 60/80 10.0 rows/s 0:20 ETA 0:02",
    ]


def test_passes_side_by_side_count_once_for_the_time_that_is_left() -> None:
    watch = Stopwatch(0.0)
    beside = (one_pass("working", 10, 40), one_pass("working", 20, 40, vector="sparse-b"))
    resumed = one_pass("waiting", 30, 40, vector="dense-c")
    total = watch.total(watch.rows(of(*beside, resumed, rows=40), 5.0), 5.0)
    assert (total.left, total.at_least, total.rate) == (3.0 + 1.0, False, 20.0)
    assert (total.rows, total.total, total.elapsed, total.share) == (60, 120, 5.0, 0.5)
    fresh = one_pass("waiting", 0, 40, vector="dense-d")
    assert watch.total(watch.rows(of(*beside, fresh, rows=40), 6.0), 6.0).at_least


def test_figures_in_words() -> None:
    row = ProgressRow("v", 1, 2, 0.5, 1234.5, 1.0, 3723.0, growing=False, at_least=True, state="working")
    assert (rate_of(row, "pairs"), left_of(row), count_of(row)) == ("1,234 pairs/s", "ETA 1:02:03+", "1/2")


@pytest.mark.parametrize("width", [60, 80, 105, 150])
def test_bars_fit_into_the_terminal_and_show_what_there_is_room_for(width: int) -> None:
    watch = Stopwatch(0.0)
    name = "dense-a-name-that-is-much-too-long-for-a-row"
    passes = (
        one_pass("working", 11_234, 40_000, vector=name),
        one_pass("staging", 0, 40, vector="dense-b", doing="loading the model into memory"),
        one_pass("waiting", 0, 40, vector="dense-c", doing="waiting for " + name),
        one_pass("done", 40_000, 40_000, vector="sparse-d"),
    )
    rows = watch.rows(of(*passes, rows=40_000), 70.0)
    out = io.StringIO()
    drawn = bars([*rows, watch.total(rows, 70.0)], "rows", "", width, Spinner("dots"))
    Console(file=out, width=width, highlight=False).print(drawn)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert len(lines) == 5, "no row is wrapped"
    assert max(map(len, lines)) <= width
    assert lines[3].startswith("✓ sparse-d")
    if width >= 80:
        assert " 28% " in lines[0]
        assert "loading the model into memory" in lines[1]
        assert "waiting for dense-a" in lines[2]
        assert "10.0 rows/s" in lines[0]
        assert "0:00 ETA 47:56" in lines[0]
        assert "1:10 ETA 47:56+" in lines[4]
    assert ("11,234/40,000" in lines[0], "50 tokens/s · cpu:0" in lines[0]) == (width >= 105, width >= 140)


def shown(capsys: pytest.CaptureFixture[str], settings: OutputSettings) -> list[str]:
    messages.configure(settings)
    view = make_view()
    view.show(of(one_pass("working", 2, 4), rows=4, notices=("a worker was lost",)))
    view.say("a line")
    view.close()
    return capsys.readouterr().err.splitlines()


def test_what_each_form_of_progress_shows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = shown(capsys, OutputSettings())
    assert [len(line.split()[1]) for line in lines[:2]] == [len("12:00:00")] * 2, "the time of day"
    assert [line.split(" ", 2)[2] for line in lines[:2]] == [
        "a worker was lost",
        "dense-a: 50% 2/4 10.0 rows/s 0:00 ETA 0:00",
    ]
    assert lines[2:] == ["embedfleet: a line"]
    assert len(shown(capsys, OutputSettings(progress="none"))) == 2
    assert "50 tokens/s · cpu:0" in shown(capsys, OutputSettings(verbose=True))[1]
    log = tmp_path / "run.log"
    assert shown(capsys, OutputSettings(quiet=True, log_file=log)) == []
    assert [line.split(" ", 2)[2].strip() for line in log.read_text().splitlines()[1:]] == [
        "a worker was lost",
        "dense-a: 50% 2/4 10.0 rows/s 0:00 ETA 0:00 · 50 tokens/s · cpu:0",
        "a line",
    ]


def test_progress_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in shown(capsys, OutputSettings(progress="json"))]
    assert [sorted(line) for line in lines] == [["message", "time"], ["progress", "time"], ["message", "time"]]
    found = lines[1]["progress"]
    assert (found["rows"], found["unit"], found["share_done"], found["at_least"]) == (4, "rows", 0.5, False)
    assert found["passes"][0]["vector"] == "dense-a"
    messages.messages().fail("no room")
    assert json.loads(capsys.readouterr().err)["error"] == "no room"


def test_events_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    def event(name: str, **fields: Any) -> bytes:
        return msgspec.json.encode({"time": 1.0, "event": name, **fields}) + b"\n"

    path.write_bytes(event("of_an_earlier_session"))
    events = EventLines(path)
    assert list(events.take()) == []
    with path.open("ab") as file:
        file.write(event("lease", vector="dense-a", pid=7, seconds=0.25, memory=None, error="") + b'{"time": 2.0, "ev')
    assert list(events.take()) == ["lease: vector dense-a, pid 7, seconds 0.25"]
    with path.open("ab") as file:
        file.write(b'ent": "over"}\nno JSON\n')
    assert list(events.take()) == ["over"]
    path.unlink()
    assert list(events.take()) == []
    path.write_bytes(event("after_a_restart"))
    assert list(events.take()) == ["after_a_restart"]


def test_lines_stand_above_the_bars_and_the_cursor_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    messages.configure(OutputSettings(progress="bar"))
    view = make_view()
    view.show(of(one_pass("working", 2, 4), rows=4))
    view.say("a [line]")
    view.close()
    said = capsys.readouterr().err
    assert "embedfleet: a [line]" in said
    assert "dense-a" in said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_a_pass_whose_rows_are_all_computed_is_at_100_percent() -> None:
    estimated = msgspec.structs.replace(one_pass("waiting", 40, 40), share_done=0.96, seconds_left=1.0)
    shares = [
        [(one.share, one.left) for one in Stopwatch(0.0).rows(of(estimated, rows=40, read=read), 5.0)]
        for read in (True, False)
    ]
    assert shares == [[(1.0, None)], [(0.96, 1.0)]]
