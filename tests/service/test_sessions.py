"""Runs of several sessions: rows, seconds and rates of the same ones, and what an interrupt loses is said."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

SLOW = "dense-fake-8"


def arguments(source: Path, out: Path, delay: int = 1_000) -> tuple[str, ...]:
    """Batches of 4,096 rows, each of which takes `delay` milliseconds: four are a segment."""
    models = ("--dense", f"fake:8,delay_ms={delay}", "--index", "none", "--devices", "cpu")
    return ("run", str(source), "--out", str(out), *models)


def figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("how", ["once", "twice"])
def test_an_interrupted_run_and_its_resume(
    start: Any, cli: Any, waiting: Any, read_events: Any, many: Path, tmp_path: Path, how: str
) -> None:
    out = tmp_path / "run"
    run = arguments(many, out, 2_000 if how == "twice" else 1_000)
    command = start(*run)
    first = out / "vectors" / SLOW / "00000.parquet"
    waiting.eventually(first.exists, 60.0, "a committed segment")
    if how == "twice":  # the command has heard of the batch before the last; the next segment is two batches away
        waiting.eventually(
            lambda: any(one["rows"] > 20_480 for one in read_events(out) if one["event"] == "batch_progress"),
            60.0,
            "two batches of the next one",
        )
    command.signal(signal.SIGINT)
    if how == "twice":
        waiting.eventually(lambda: "once more" in command.err, 30.0, "the notice")
        command.signal(signal.SIGINT)
    command.wait(130)
    (line,) = [one for one in command.err.splitlines() if "not committed" in one]
    assert line.endswith("not committed; the same command computes these again")
    committed = figure(rf"{SLOW}: ([\d,]+) rows? committed", line)
    lost = figure(r"([\d,]+) computed but not committed", line)
    assert committed in (16_384, 32_768)
    assert lost > 0
    if how == "once":
        (before,) = [one for one in command.err.splitlines() if f"embedfleet: {SLOW}: " in one and "coverage" in one]
        assert figure(r": ([\d,]+) rows,", before) == committed + lost
        assert figure(r", ([\d,]+) rows committed in all", before) == committed
    again = cli(*run)
    (after,) = [one for one in again.err.splitlines() if f"embedfleet: {SLOW}: " in one and "coverage" in one]
    rows, seconds, rate = (
        figure(pattern, after) for pattern in (r": ([\d,]+) rows,", r" ([\d.]+) s,", r"([\d,.]+) rows/s")
    )
    assert rows == 40_000 - committed
    assert rate == pytest.approx(rows / seconds, rel=0.05)
    assert ", 40,000 rows committed in all" in after
    if how == "once":  # of one that was killed there are no figures
        total = figure(r"all sessions: ([\d,]+) in", after)
        assert total == rows + committed + lost
        assert "by 2 sessions" in after
    else:
        assert (
            f"by 1 session; {int(40_000 - rows):,} by sessions that were killed, in a time that is not known" in after
        )
