from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.output.messages import OutputSettings, configure
from embedfleet.client.steps.run_table import make_table, show_stages
from embedfleet.client.steps.step_summary import Stage, candidate_stage, ensemble_stages, export_stage, pass_stages
from embedfleet.protocol.run_directory.records.candidates import CandidatesRecord
from embedfleet.protocol.spec.ensemble_spec import EnsembleSpec
from embedfleet.protocol.statistics.pass_stats import PassStats
from embedfleet.protocol.statistics.run_stats import RunStats
from embedfleet.protocol.wire.control import PassSummary, RunEnded
from rich.console import Console


def candidates(**counts: Any) -> CandidatesRecord:
    return CandidatesRecord(made_of="", candidates=10, signals=("dense-a",), pairs=0, **counts)


FULL = {
    "rows": "1,200,000",
    "seconds": "1,234.5",
    "rate": "80.1",
    "tokens": "6,542",
    "batch": "1,024",
    "latency": "10.4 / 12.6",
    "memory": "1.5 GB",
    "gpu": "12.5 GB",
    "coverage": "100.00%",
    "placed": "cuda:0 bfloat16",
    "device": "cuda:0 (NVIDIA H100)",
}
STAGES = [
    Stage("dense-all-minilm-l6-v2", FULL),
    Stage("ensemble-concat", {"rows": "1,200,000", "coverage": "99.90%"}),
    Stage("queries: dense-all-minilm-l6-v2", FULL),
    candidate_stage(candidates(queries=500, without=5, seconds=3.52)),
    Stage("rerank-ms-marco-minilm-l6-v2", FULL, "pairs"),
]


def drawn(width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(make_table(STAGES, width))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_has_every_stage_whole_at_every_width(width: int) -> None:
    text = drawn(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text, "nothing is cut off"
    assert all(word in text for word in ("stage", "coverage", "99.90%", "99.00%", "(pairs)", "(queries)"))
    assert ("p50 / p95 s" in text, "batch" in text) == (width >= 80, width >= 80)
    assert ("memory" in text, "rows/s" in text, "device" in text) == (width >= 120, width >= 120, width >= 200)


def test_elsewhere_each_stage_is_a_line() -> None:
    said: list[str] = []
    show_stages(STAGES[1:], said.append)
    assert said[0] == "ensemble-concat: 1,200,000 rows, coverage 99.90%"
    assert said[2] == "candidates, fusion: 500 queries, 3.5 s, coverage 99.00%"
    assert said[3].startswith("rerank-ms-marco-minilm-l6-v2: 1,200,000 pairs, 1,234.5 s, 80.1 pairs/s, 6,542 tokens/s,")
    assert "p50 / p95 10.4 / 12.6 s, memory 1.5 GB, GPU 12.5 GB, coverage 100.00%" in said[3]


@pytest.mark.parametrize(("unit", "one"), [("rows", "1 row"), ("queries", "1 query"), ("pairs", "1 pair")])
def test_one_is_not_many(unit: str, one: str) -> None:
    said: list[str] = []
    show_stages([Stage("dense-a", {"rows": "1", "cut": "1 / 2.0%"}, unit)], said.append)
    assert said == [f"dense-a: {one}, cut {one}, 2.0% of all tokens"]


def test_a_pass_that_computed_nothing_has_rows_and_coverage_alone(run_files: Any) -> None:
    summary = PassSummary(
        vector=run_files.DENSE,
        model="fake:4",
        device="",
        chunks=5,
        chunks_per_second=0.0,
        tokens_per_second=0.0,
        padding=0.0,
        rotation_gap_seconds=None,
        coverage=0.8,
    )
    ending = RunEnded(
        run="r1",
        status="done",
        chunks=5,
        committed=4,
        quarantined=1,
        skipped_duplicates=0,
        seconds=1.0,
        passes=(summary,),
    )
    assert pass_stages(ending, "queries: ") == [
        Stage(f"queries: {run_files.DENSE}", {"rows": "5", "coverage": "80.00%"})
    ]
    latency = {"p50": 0.12345, "p95": 150.0}
    worked = msgspec.structs.replace(
        summary, computed=5, batches=2, seconds=1.25, peak_bytes=1_500_000, batch_seconds=latency
    )
    (stage,) = pass_stages(msgspec.structs.replace(ending, passes=(worked,)))
    assert stage.cells["latency"] == "0.123 / 150"
    assert (stage.cells["batch"], stage.cells["memory"], stage.cells["seconds"]) == ("2.5", "1.5 MB", "1.2")


KILLED = "20,000 by sessions that were killed, in a time that is not known"


@pytest.mark.parametrize(
    ("recorded", "line"),
    [
        (
            {"sessions": 2, "computed": 1_000, "seconds": 4.0, "chunks_per_second": 250.0},
            "1,000 in 4.0 s (250.0/s) by 2 sessions",
        ),
        ({"sessions": 0, "computed": 0, "seconds": 0.0, "untimed": 20_000}, KILLED),
        ({"sessions": 0, "computed": 0, "seconds": 0.0, "untimed": 0}, None),
        (
            {"sessions": 1, "computed": 50, "seconds": 2.0, "chunks_per_second": 25.0, "untimed": 20_000},
            f"50 in 2.0 s (25.0/s) by 1 session; {KILLED}",
        ),
    ],
)
def test_sessions_that_were_killed_are_named_beside_those_whose_time_is_known(recorded: Any, line: str | None) -> None:
    summary = PassSummary(
        vector="dense-a",
        model="fake:4",
        device="",
        chunks=21_000,
        chunks_per_second=0.0,
        tokens_per_second=0.0,
        padding=0.0,
        rotation_gap_seconds=None,
        earlier=20_500,
    )
    counts: dict[str, Any] = {"chunks": 21_000, "committed": 21_000, "quarantined": 0, "skipped_duplicates": 0}
    ending = RunEnded(run="r1", status="done", seconds=1.0, passes=(summary,), **counts)
    (stage,) = pass_stages(
        ending, stats=RunStats(passes=(msgspec.structs.replace(PassStats.none("dense-a"), **recorded),))
    )
    assert stage.cells.get("all") == line


def test_steps_that_are_no_run_have_latency_and_memory_where_they_are_known() -> None:
    found = candidates(queries=4, without=1, seconds=2.0, query_seconds={"p50": 0.01, "p95": 0.25})
    cells = candidate_stage(found, 2_000_000).cells
    assert (cells["latency"], cells["memory"], cells["coverage"]) == ("0.010 / 0.250", "2.0 MB", "75.00%")
    assert export_stage(600, 2.0, 0) == Stage("export", {"rows": "600", "seconds": "2.0", "rate": "300.0"})


def test_an_ensemble_is_counted_from_its_segments(run_files: Any, tmp_path: Any) -> None:
    files = run_files.RunFiles(tmp_path / "run", sizes=(3, 2), quarantined=(4,)).write()
    one = EnsembleSpec(vector=run_files.DENSE, method="concat", members=("a", "b"), weights=(1.0, 1.0))
    spec = msgspec.structs.replace(files.spec, ensembles=(one,))
    assert ensemble_stages(spec, files.layout) == [
        Stage(run_files.DENSE, {"rows": "5", "coverage": "80.00%", "cut": "0 / 0.0%"})
    ]
    files.layout.vector_segment(run_files.DENSE, 1).unlink()  # as after an interrupt
    assert ensemble_stages(spec, files.layout) == [
        Stage(run_files.DENSE, {"rows": "3", "coverage": "60.00%", "cut": "0 / 0.0%"})
    ]
    assert ensemble_stages(files.spec, files.layout) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_file_has_as_lines_what_a_terminal_shows_as_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "stderr", Terminal())
    configure(OutputSettings(log_file=tmp_path / "log"))
    try:
        show_stages(STAGES[1:2], said.append)
    finally:
        configure(OutputSettings())
    assert said == []
    assert (tmp_path / "log").read_text().endswith("ensemble-concat: 1,200,000 rows, coverage 99.90%\n")
