"""The mean for BM25 by its real child process: what comes of it, and of whatever may befall it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.coordinator.core.events import CorpusMeasured, RunFailed
from embedfleet.coordinator.runs import bm25_fit
from embedfleet.coordinator.runs.bm25_fit import ATTEMPTS, Bm25Fit
from embedfleet.protocol.errors import DamagedChunks
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.fingerprint import Fingerprint
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec

from .. import waiting

pytest.importorskip("qdrant_edge")

BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")
DENSE = PassSpec(vector="dense-a", kind="dense", model="fake:8")
SPEC = RunSpec(source="/s", passes=(DENSE, BM25))
SECONDS = 60.0


def spool(layout: RunLayout, *segments: Sequence[str]) -> None:
    layout.chunks.mkdir(parents=True, exist_ok=True)
    for segment, texts in enumerate(segments):
        table = pa.table({"text": pa.array(texts, pa.string())})
        pq.write_table(table, layout.chunk_segment(segment), write_page_checksum=True)


def finish(layout: RunLayout, segments: int) -> None:
    counts = {"segments": segments, "rows": 0, "rejected": 0, "duplicates": 0, "complete": True}
    layout.intake_folder.mkdir(exist_ok=True)
    layout.intake.write_text(json.dumps(counts))


def fingerprint(**settings: float) -> Fingerprint:
    return Fingerprint(
        model="bm25", revision="", weights="", dtype="float32", max_tokens=0, prompt="", pooling="bm25 english",
        dim=0, normalized=False, versions={}, settings=settings,
    )  # fmt: skip


class Case:
    """A fit over a folder, and what it reports."""

    def __init__(self, root: Path) -> None:
        self.layout = RunLayout(root)
        self.reports: queue.Queue[Any] = queue.Queue()
        self.fits: list[Bm25Fit] = []

    def fit(self, spec: RunSpec = SPEC, **options: Any) -> Bm25Fit:
        self.fits.append(Bm25Fit("r", spec, self.layout, self.reports.put, **options))
        return self.fits[-1]

    def hear(self) -> Any:
        return self.reports.get(timeout=SECONDS)


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    made = Case(tmp_path / "run")
    yield made
    for one in made.fits:
        one.end()


def child() -> psutil.Process:
    """The counting process, once it is there."""
    give_up = time.monotonic() + SECONDS
    while time.monotonic() < give_up:
        if found := counting():
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no child")


def counting() -> list[psutil.Process]:
    return waiting.children_with("embedfleet.coordinator.runs.bm25_count")


def kill(one: psutil.Process) -> None:
    """End it; who started it is to reap it."""
    one.kill()
    give_up = time.monotonic() + SECONDS
    with contextlib.suppress(psutil.NoSuchProcess):
        while one.status() != psutil.STATUS_ZOMBIE and time.monotonic() < give_up:
            time.sleep(0.02)


def average(fit: Bm25Fit, before: Fingerprint | None = None) -> float | None:
    return fit.fitted(BM25, before).average_length


def test_the_mean_over_every_chunk(case: Case) -> None:
    spool(case.layout, ["fox dog", "fox fox fox lease"], ["batch"])
    fit = case.fit()
    fit.begin({})
    fit.begin({})
    finish(case.layout, 2)
    assert case.hear() == CorpusMeasured("r")
    assert average(fit) == 7 / 3
    assert average(fit, fingerprint(average_length=9.5)) == 9.5
    fit.end()
    assert case.reports.empty()


def test_a_corpus_without_terms_has_a_mean_that_can_be_divided_by(case: Case) -> None:
    spool(case.layout, ["the and of"])
    finish(case.layout, 1)
    fit = case.fit()
    fit.begin({})
    assert case.hear() == CorpusMeasured("r")
    assert average(fit) == 1.0


def test_what_an_earlier_session_was_fitted_to_is_not_counted_again(case: Case) -> None:
    fit = case.fit()
    fit.begin({1: fingerprint(average_length=3.25)})
    assert case.reports.get_nowait() == CorpusMeasured("r")
    assert counting() == []
    assert average(fit, fingerprint(average_length=3.25)) == 3.25


def test_a_run_without_such_a_pass_counts_nothing(case: Case) -> None:
    fit = case.fit(
        RunSpec(source="/s", passes=(DENSE, PassSpec(vector="b", kind="bm25", model="bm25", average_length=2.0)))
    )
    fit.begin({})
    fit.end()
    assert case.reports.empty()


def test_a_child_that_dies_is_followed_by_another(case: Case) -> None:
    spool(case.layout, ["fox dog"])
    fit = case.fit()
    fit.begin({})
    first = child()
    kill(first)
    assert child().pid != first.pid
    finish(case.layout, 1)
    assert case.hear() == CorpusMeasured("r")
    assert average(fit) == 2.0


def test_one_that_dies_each_time_fails_the_run_with_a_message(case: Case) -> None:
    spool(case.layout, ["fox dog"])
    case.fit().begin({})
    for _ in range(ATTEMPTS):
        kill(child())
    failed = case.hear()
    assert isinstance(failed, RunFailed)
    assert "could not be counted in 3 attempts (the process ended with a signal, 9). Run the same" in failed.message
    assert failed.message.endswith("Run the same command again to resume")


def test_one_that_hangs_is_ended_and_followed_by_another(case: Case) -> None:
    spool(case.layout, ["fox dog"])
    fit = case.fit(silence=4.0)
    fit.begin({})
    first = child()
    first.suspend()
    while child().pid == first.pid:
        time.sleep(0.1)
    finish(case.layout, 1)
    assert case.hear() == CorpusMeasured("r")
    assert average(fit) == 2.0


def test_a_slow_source_is_no_hang(case: Case) -> None:
    spool(case.layout, ["fox dog"])
    case.fit(silence=2.5).begin({})
    first = child()
    time.sleep(4)
    assert first.is_running()
    finish(case.layout, 1)
    assert case.hear() == CorpusMeasured("r")


@pytest.mark.parametrize("what", ["ChildProcess", "tempfile.TemporaryFile"])
def test_no_process_at_all_is_a_failure_too(case: Case, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(f"{bm25_fit.__name__}.{what}", refuse)
    case.fit().begin({})
    assert "no process can be started: Resource temporarily unavailable" in case.hear().message


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(("damage", "kind"), [(torn, DamagedChunks), (Path.unlink, RunFailed)])
def test_a_chunk_segment_that_cannot_be_read(case: Case, damage: Callable[[Path], None], kind: type[Any]) -> None:
    spool(case.layout, ["fox dog"], ["fox"])
    finish(case.layout, 2)
    damage(case.layout.chunk_segment(1))
    case.fit().begin({})
    found = case.hear()
    assert isinstance(found, kind | DamagedChunks)
    if isinstance(found, DamagedChunks):
        assert found.segment == 1
        assert found.reason


def test_the_end_of_the_run_ends_the_child_at_once(case: Case) -> None:
    spool(case.layout, ["fox dog"])
    fit = case.fit()
    fit.begin({})
    one = child()
    start = time.monotonic()
    fit.end()
    assert time.monotonic() - start < 5
    assert not one.is_running()
    assert case.reports.empty()


STARTER = """
import sys, time
from pathlib import Path
from embedfleet.coordinator.runs.bm25_fit import Bm25Fit
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec, RunSpec
spec = RunSpec(source="/s", passes=(PassSpec(vector="b", kind="bm25", model="bm25"),))
Bm25Fit("r", spec, RunLayout(Path(sys.argv[1])), print).begin({})
time.sleep(600)
"""


def ignores_sigterm(pid: int) -> bool:
    """Whether SIGTERM is in the mask of ignored signals that the kernel shows of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    return bool(mask >> (signal.SIGTERM - 1) & 1)


def test_the_child_ends_with_the_coordinator(case: Case) -> None:
    spool(case.layout, ["fox dog"])
    parent = subprocess.Popen([sys.executable, "-c", STARTER, str(case.layout.root)])
    try:
        give_up = time.monotonic() + SECONDS
        children: list[psutil.Process] = []
        while not children and time.monotonic() < give_up:
            children = psutil.Process(parent.pid).children()
            time.sleep(0.05)
        while not ignores_sigterm(children[0].pid) and time.monotonic() < give_up:  # it holds its lifeline then
            time.sleep(0.05)
        os.kill(children[0].pid, signal.SIGTERM)  # which a scheduler sends to all: it goes on
        time.sleep(0.2)
        assert children[0].is_running()
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, SECONDS)
    assert not alive


def test_a_folder_for_temporary_files_that_is_gone_fails_the_run_and_not_its_thread(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    case.fit().begin({})
    failed = case.hear()
    assert isinstance(failed, RunFailed)
    assert "no process can be started: No such file or directory" in failed.message
