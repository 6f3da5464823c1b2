"""`verify` and `info` of a run that is at work, that was killed, and that hangs: who, how far, how long."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from embedfleet.protocol.run_directory.layout import RunLayout

DENSE, OTHER = "dense-fake-8", "dense-fake-16"


def arguments(source: Path, out: Path, *more: str) -> tuple[str, ...]:
    models = ("--dense", "fake:8,delay_ms=700", "--dense", "fake:16", "--index", "none", "--devices", "cpu")
    return ("run", str(source), "--out", str(out), *models, "--batch-timeout", "300", *more)


@pytest.fixture
def at_work(start: Any, waiting: Any, read_events: Any, many: Path, tmp_path: Path) -> Any:
    """A run of which one segment is committed; its processes, its directory and its worker, which is stopped: it is at work
    for as long as a test needs."""
    out = tmp_path / "run"
    command = start(*arguments(many, out))

    def far_enough() -> bool:
        rows = [one["rows"] for one in read_events(out) if one["event"] == "batch_progress"]
        return RunLayout(out).vector_segment(DENSE, 0).exists() and len(rows) > 1

    waiting.eventually(far_enough, 60.0, "a committed segment")
    leases = [one for one in read_events(out) if one["event"] == "lease" and one["phase"] == "before"]
    (lease,) = [one for one in leases if one["vector"] == DENSE]
    worker = psutil.Process(lease["pid"])
    worker.suspend()
    assert not RunLayout(out).vector_segment(DENSE, 2).exists()
    return command, out, worker


def test_a_run_at_work_is_no_problem(at_work: Any, cli: Any, many: Path) -> None:
    command, out, worker = at_work
    exporter = command.child("embedfleet.exporter")
    coordinator = command.child("embedfleet.coordinator")
    report = cli("verify", out, "--json").json
    assert (report["ok"], report["problems"], report["interrupted"]) == (True, [], "")
    running = report["running"]
    assert (running["pid"], running["parent"]) == (exporter.pid, coordinator.pid)
    assert (running["host"], running["step"]) == (socket.gethostname(), "run")
    assert (running["rows"], running["source_read"]) == (40_000, True)
    dense = running["vectors"][DENSE]
    assert dense["rows"] in (16_384, 32_768, 40_000)
    assert dense["rows"] == 40_000 or 0 < dense["seconds_left"] < 120
    shown = cli("verify", out).out.decode()
    assert f"running: process {exporter.pid} on {socket.gethostname()} since " in shown
    assert f"{DENSE} {dense['rows']:,} of 40,000 rows committed" in shown
    assert "whole so far" in shown
    assert "problem" not in shown
    described = cli("info", out, "--json").json
    assert (described["status"], described["running"]["pid"]) == ("running", exporter.pid)
    assert "running: process" in cli("info", out).out.decode()
    refused = cli(*arguments(many, out), code=2)
    assert f"another run is writing there (process {exporter.pid} on {socket.gethostname()})" in refused.err

    # A coordinator that hangs is not taken for one that ended.
    coordinator.send_signal(signal.SIGSTOP)
    try:
        assert cli("verify", out, "--json").json["running"]["parent"] == coordinator.pid
    finally:
        coordinator.send_signal(signal.SIGCONT)

    worker.resume()
    command.wait(0)
    done = cli("verify", out, "--json").json
    assert (done["problems"], done["running"], done["interrupted"]) == ([], None, "")
    assert cli("info", out, "--json").json["status"] == "done"


def test_a_killed_run_is_interrupted_and_says_what_goes_on(at_work: Any, cli: Any, many: Path) -> None:
    command, out, _ = at_work
    for one in command.look().values():
        one.kill()
    command.process.kill()
    command.process.wait()
    command.all_gone(5.0)
    report = cli("verify", out, "--json", code=1).json
    assert report["running"] is None
    assert report["interrupted"].startswith(f"interrupted: {DENSE} 16,384 of 40,000 rows committed, {OTHER} 0 of")
    assert f"embedfleet run {many} --out {out}" in report["interrupted"]
    assert cli("info", out, "--json").json["status"] == "interrupted"
    assert report["interrupted"] in cli("info", out).out.decode().replace("\n", "")
    cli(*arguments(many, out))
    assert cli("verify", out, "--json").json["problems"] == []


def test_a_damaged_segment_is_a_problem_while_the_run_works(at_work: Any, cli: Any) -> None:
    _, out, _ = at_work
    path = RunLayout(out).vector_segment(DENSE, 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = cli("verify", out, "--json", code=1).json
    assert report["running"] is not None
    assert all(str(path) in problem for problem in report["problems"])


def test_the_queries_of_a_run_that_is_done(
    start: Any, cli: Any, corpus_of: Any, waiting: Any, tmp_path: Path
) -> None:  # fmt: skip
    pytest.importorskip("qdrant_edge")
    source = corpus_of(tmp_path / "corpus.jsonl", [f"row {row}" for row in range(50)])
    out, queries = tmp_path / "run", tmp_path / "queries.jsonl"
    queries.write_text("".join(json.dumps({"_id": f"q{n}", "text": f"row {n}"}) + "\n" for n in range(20)))
    models = ("--dense", "fake:8,delay_ms=1000", "--devices", "cpu", "--queries", str(queries))
    command = start("run", source, "--out", out, *models)
    waiting.eventually(RunLayout(out / "queries").spec.exists, 60.0, "the run of the queries")
    running = cli("verify", out, "--json").json["running"]
    assert running is None or running["step"] in ("queries", "after")
    assert running is not None or command.process.poll() is not None
    command.wait(0)
    assert cli("verify", out, "--json").json["problems"] == []


def test_a_lock_of_another_version_or_host(cli: Any, corpus_of: Any, tmp_path: Path) -> None:
    """Nothing in the file of a lock that is held; a name of another host in one that is not held here."""
    import fcntl

    source = corpus_of(tmp_path / "corpus.jsonl", [f"row {row}" for row in range(50)])
    out = tmp_path / "run"
    cli("run", source, "--out", out, "--dense", "fake:8", "--devices", "cpu", "--index", "none")
    layout = RunLayout(out)
    assert layout.lock.read_bytes() == b""
    layout.manifest.unlink()
    with layout.lock.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "running: a process of another version" in cli("verify", out).out.decode()
    layout.lock.write_text(json.dumps({"pid": 77, "host": "elsewhere", "since": 1.0}))
    layout.events.touch()
    assert "running: process 77 on elsewhere" in cli("verify", out).out.decode()
    assert cli("info", out, "--json").json["status"] == "running"
    import os

    os.utime(layout.events, (1, 1))
    assert cli("info", out, "--json").json["status"] == "interrupted"
