"""Every way in which a worker fails: the run ends by itself, the guilty row alone is in quarantine, the rest is as ever."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run

ROWS, GUILTY = 8, 5
MOST_DEATHS = int(math.log2(ROWS)) + 3
QUICK = ("--batch-timeout", "2")


@pytest.fixture
def source(corpus_of: Any, tmp_path: Path) -> Path:
    texts = [f"text {row}" for row in range(ROWS)]
    texts[GUILTY] = "a poison text"
    return corpus_of(tmp_path / "corpus.jsonl", texts)


def arguments(source: Path, out: Path, model: str, *more: str) -> tuple[str, ...]:
    return ("run", str(source), "--out", str(out), "--dense", model, "--devices", "cpu", "--index", "none", *more)


def deaths(events: list[dict[str, Any]]) -> list[str]:
    return [one["reason"] for one in events if one["event"] == "worker_lost"]


@pytest.mark.parametrize(
    ("fault", "reason", "more"),
    [
        ("kill_on", "signal 9", ()),
        ("exit_on", "exit code 1", ()),
        ("prepare_on", "signal 9", ()),
        ("shape_on", "of another shape", ()),
        ("raise_on", "CUDA error: an illegal memory access", ()),
        ("hang_on", "no progress on a batch for 2 s", QUICK),
        ("gil_on", "no progress on a batch for 2 s", QUICK),
    ],
)
def test_a_row_that_ends_or_stops_its_worker_is_quarantined_alone(
    cli: Any, source: Path, tmp_path: Path, fake_vectors: Any, read_events: Any, fault: str, reason: str, more: Any
) -> None:
    out = tmp_path / "run"
    done = cli(*arguments(source, out, f"fake:16,{fault}=poison", *more, "--json"), code=3)
    printed = done.json
    assert (printed["chunks"], printed["committed"], printed["quarantined"]) == (ROWS, ROWS - 1, 1)
    assert f"{ROWS} read = {ROWS - 1} committed + 1 quarantined" in done.err
    found = open_run(out)
    (bad,) = (json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines())
    assert (bad["row"], bad["id"], bad["excerpt"]) == (GUILTY, f"c{GUILTY}", "a poison text")
    assert bad["n_tokens"] > 0
    assert reason in bad["reason"]
    assert len(deaths(read_events(out))) <= MOST_DEATHS
    vectors = found.vectors()
    assert np.isnan(vectors[GUILTY]).all()
    rest = [row for row in range(ROWS) if row != GUILTY]
    np.testing.assert_array_equal(vectors[rest], fake_vectors([f"text {row}" for row in rest], 16))


def test_a_worker_that_is_stopped_is_ended_and_its_batches_are_computed(
    start: Any, source: Path, tmp_path: Path, waiting: Any, read_events: Any
) -> None:
    """SIGSTOP leaves a process that neither works nor dies: the deadline of its batch finds it."""
    out = tmp_path / "run"
    command = start(*arguments(source, out, "fake:16,delay_ms=1500", "--batch-timeout", "3"))
    ready = lambda: [one for one in read_events(out) if one.get("phase") == "hydrated"]  # noqa: E731
    waiting.eventually(ready, 30.0, "a hydrated worker")
    worker = command.child("embedfleet.worker")
    worker.suspend()
    command.wait(0)
    assert open_run(out).complete
    assert open_run(out).quarantine == []
    (reason,) = deaths(read_events(out))
    assert "no progress on a batch for 3 s" in reason
    assert waiting.is_gone(worker)


@pytest.mark.parametrize(
    ("fault", "reason", "more"),
    [
        ("kill", "killed by signal 9", ()),
        ("raise", "exit code 70: RuntimeError: CUDA error: out of luck", ()),
        ("hang", "still hydrating after 1 s", ("--load-timeout", "1")),
    ],
)
def test_a_model_that_never_becomes_ready_ends_the_run_and_it_resumes(
    cli: Any, source: Path, tmp_path: Path, read_events: Any, fault: str, reason: str, more: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    done = cli(*arguments(source, out, f"fake:16,load={fault}", *more), code=1)
    assert "Traceback" not in done.err
    (error,) = [line for line in done.err.splitlines() if line.startswith("embedfleet: error: ")]
    assert f"every device for dense-fake-16 was given up: cpu:0 (2 threads): {reason}" in error
    (bad,) = [one for one in read_events(out) if one["event"] == "device_bad"]
    assert bad["failures"] == 3
    assert open_run(out).quarantine == [], "no row is to blame"


def test_two_slots_one_of_which_loses_its_worker_again_and_again(
    start: Any, many: Path, tmp_path: Path, waiting: Any, read_events: Any
) -> None:
    """The device that loses its workers is given up; the other one, which stands still until then, finishes."""
    out = tmp_path / "run"
    command = start(*arguments(many, out, "fake:16,delay_ms=200", "--devices", "cpu:2"))

    def workers(device: str) -> list[int]:
        events = [one for one in read_events(out) if one["event"] == "lease" and one["phase"] == "before"]
        return [one["pid"] for one in events if one["device"].startswith(device)]

    def given_up() -> list[str]:
        return [one["device"] for one in read_events(out) if one["event"] == "device_bad"]

    (other,) = waiting.eventually(lambda: workers("cpu:0"), 30.0, "the other device's worker")
    os.kill(other, signal.SIGSTOP)
    killed: set[int] = set()

    def is_given_up() -> bool:
        for pid in set(workers("cpu:1")) - killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return bool(given_up())

    waiting.eventually(is_given_up, 40.0, "one device given up")
    assert len(killed) == 3
    os.kill(other, signal.SIGCONT)
    command.wait(0)
    found = open_run(out)
    assert (found.complete, found.quarantine) == (True, [])
    (bad,) = given_up()
    assert bad.startswith("cpu:1")


def test_sigterm_drains_only_as_long_as_it_is_given(
    start: Any, source: Path, tmp_path: Path, waiting: Any, read_events: Callable[[Path], list[dict[str, Any]]]
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(source, out, "fake:16,delay_ms=60000", "--grace", "1"))
    ready = lambda: [one for one in read_events(out) if one.get("phase") == "hydrated"]  # noqa: E731
    waiting.eventually(ready, 30.0, "a hydrated worker")
    tree = command.look()
    began = time.monotonic()
    command.signal(signal.SIGTERM)
    command.wait(143)
    assert time.monotonic() - began < 15, "a batch of a minute is not waited for"
    waiting.eventually(lambda: all(waiting.is_gone(one) for one in tree.values()), 5.0, "every process gone")
    assert "the same command resumes" in command.err
