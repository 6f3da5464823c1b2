"""Whatever is killed: a run ends by itself or resumes, with the same result as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedfleet import open_run

SLOW = "fake:64,delay_ms=150"
"""Ten batches of 40,000 rows: at least a second and a half."""


@pytest.fixture(scope="module")
def expected(many_texts: list[str], fake_vectors: Any) -> bytes:
    """The vectors of an undisturbed run (test_run shows that it has these)."""
    return fake_vectors(many_texts, 64).tobytes()


def arguments(source: Path, out: Path, model: str = SLOW, *more: str) -> tuple[str, ...]:
    return ("run", str(source), "--out", str(out), "--dense", model, "--devices", "cpu", "--index", "none", *more)


def is_whole(out: Path, expected: bytes) -> None:
    found = open_run(out)
    assert found.complete
    assert found.ids == [f"c{row}" for row in range(40_000)]
    assert found.vectors().tobytes() == expected


@pytest.fixture
def until(waiting: Any, read_events: Callable[[Path], list[dict[str, Any]]]) -> Callable[..., dict[str, Any]]:
    """Waits until a run directory has an event of this name, with these fields; the event."""

    def wait(out: Path, event: str, **fields: Any) -> dict[str, Any]:
        wanted = {"event": event, **fields}

        def find() -> dict[str, Any] | None:
            found = read_events(out)
            return next((one for one in found if all(one.get(name) == wanted[name] for name in wanted)), None)

        return waiting.eventually(find, 30.0, f"{event} {fields}")

    return wait


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each committed segment."""
    found = sorted((out / "vectors").glob("*/*.parquet"))
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_a_killed_worker_costs_nothing(
    start: Any, many: Path, tmp_path: Path, until: Any, read_events: Any, expected: bytes
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out))
    lease = until(out, "lease", phase="before")
    until(out, "batch_progress")
    os.kill(lease["pid"], signal.SIGKILL)
    command.wait(0)
    is_whole(out, expected)
    events = read_events(out)
    (lost,) = [one for one in events if one["event"] == "worker_lost"]
    assert lost["worker"] == lease["worker"]
    assert "signal 9" in lost["reason"]
    assert 1 <= lost["batches"] <= 2, "computed again"
    assert len([one for one in events if one["event"] == "lease" and one["phase"] == "before"]) == 2
    assert "worker lost" in command.err


def test_a_killed_coordinator_takes_all_along_and_the_same_command_completes(
    start: Any, cli: Any, many: Path, tmp_path: Path, until: Any, expected: bytes
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out))
    coordinator = command.child("embedfleet.coordinator")
    until(out, "segment_committed")
    assert len(command.look()) >= 3
    coordinator.kill()
    command.all_gone(1.0)
    command.wait(1)
    assert "the same command resumes" in command.err
    assert "Traceback" not in command.err
    before = stamps(out)
    assert before
    assert len(before) < 3
    done = cli(*arguments(many, out, SLOW, "--json")).json
    assert done["committed"] == 40_000
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    is_whole(out, expected)


def test_a_killed_exporter_costs_what_was_not_committed(
    start: Any, cli: Any, many: Path, tmp_path: Path, waiting: Any, expected: bytes
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out, SLOW, "--index", "edge"))
    exporter = command.child("embedfleet.exporter")
    waiting.eventually((out / "published.json").exists, what="a published segment")
    before = stamps(out)
    exporter.kill()
    command.wait(0)
    is_whole(out, expected)
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert "the exporter ended" in command.err
    report = cli("verify", out, "--json").json
    assert (report["ok"], report["points"]) == (True, 40_000)


def test_a_killed_command_leaves_nothing_behind(
    start: Any, cli: Any, many: Path, tmp_path: Path, until: Any, expected: bytes
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out))
    until(out, "batch_progress")
    command.signal(signal.SIGKILL)
    command.all_gone(1.0)
    command.wait(-signal.SIGKILL)
    assert len(command.tree) >= 3
    cli(*arguments(many, out))
    is_whole(out, expected)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_drains_and_the_same_command_completes(
    start: Any, cli: Any, many: Path, tmp_path: Path, until: Any, expected: bytes, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out))
    until(out, "segment_committed")
    command.signal(number)
    command.wait(code, 10)
    command.all_gone(2.0)
    assert "the same command resumes" in command.err
    assert not (out / "manifest.json").exists()
    assert json.loads((out / "stats.json").read_bytes())["status"] == "interrupted"
    before = stamps(out)
    assert before
    cli(*arguments(many, out))
    is_whole(out, expected)
    after = stamps(out)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_to_every_process_drains_as_well(
    start: Any,
    cli: Any,
    many: Path,
    tmp_path: Path,
    until: Any,
    read_events: Any,
    expected: bytes,
    number: signal.Signals,
    code: int,
) -> None:
    """As schedulers signal a whole job step, and the command a second time. What is in flight is finished and committed, then
    all end."""
    out = tmp_path / "run"
    slower = arguments(many, out, "fake:64,delay_ms=500")  # it must still work when it is looked at
    command = start(*slower)
    until(out, "segment_committed")
    command.child("embedfleet.worker")
    for one in command.look().values():
        one.send_signal(number)
    command.signal(number)
    command.signal(number)  # a parent that was signalled too forwards it
    command.wait(code, 10)
    command.all_gone(2.0)
    assert "Traceback" not in command.err
    assert "worker lost" not in command.err
    assert "the exporter ended" not in command.err
    assert json.loads((out / "stats.json").read_bytes())["status"] == "interrupted"
    assert "worker_lost" not in [one["event"] for one in read_events(out)]
    before = stamps(out)
    assert before
    cli(*slower)
    is_whole(out, expected)
    after = stamps(out)
    assert {name: after[name] for name in before} == before


def test_a_signal_ends_a_run_whose_source_never_ends(start: Any, tmp_path: Path, until: Any) -> None:
    out, fifo = tmp_path / "run", tmp_path / "pipe"
    os.mkfifo(fifo)
    with os.fdopen(os.open(fifo, os.O_RDWR), "r+b", buffering=0) as pipe:  # held open for writing, so no end of file
        command = start(*arguments(Path("-"), out), stdin=pipe)
        pipe.write(b"".join(b'{"text":"row %d"}\n' % row for row in range(2_000)))
        until(out, "lease", phase="hydrated")
        command.signal(signal.SIGINT)
        command.wait(130, 10)
        command.all_gone(2.0)
    assert "Traceback" not in command.err


def test_a_torn_segment_is_computed_again(cli: Any, many: Path, tmp_path: Path, expected: bytes) -> None:
    out = tmp_path / "run"
    cli(*arguments(many, out, "fake:64"))
    before, torn = stamps(out), out / "vectors" / "dense-fake-64" / "00001.parquet"
    torn.write_bytes(torn.read_bytes()[:-50])
    cli(*arguments(many, out, "fake:64"))
    is_whole(out, expected)
    after = stamps(out)
    assert [name for name in before if before[name] != after[name]] == ["00001.parquet"]


def test_a_second_sigint_ends_at_once(start: Any, many: Path, tmp_path: Path, until: Any, waiting: Any) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out, "fake:64,delay_ms=20000"))
    until(out, "lease", phase="hydrated")
    command.signal(signal.SIGINT)
    waiting.eventually(lambda: "once more" in command.err, what="the drain")
    command.signal(signal.SIGINT)
    command.wait(130, 3)
    command.all_gone(2.0)
    assert "Traceback" not in command.err


def test_a_deadly_row_is_quarantined_alone(
    cli: Any, corpus_of: Any, tmp_path: Path, fake_vectors: Any, read_events: Any
) -> None:
    texts = [f"text {row}" for row in range(48)]
    texts[19] = "a poison text"
    out = tmp_path / "run"
    source = corpus_of(tmp_path / "corpus.jsonl", texts)
    ended = cli(*arguments(source, out, "fake:16,kill_on=poison", "--json"), code=3)
    done, said = ended.json, [line for line in ended.err.splitlines() if "worker lost on" in line]
    assert (done["chunks"], done["committed"], done["quarantined"]) == (48, 47, 1)
    found = open_run(out)
    (bad,) = found.quarantine
    assert (bad["row"], bad["id"]) == (19, "c19")
    assert "signal 9" in bad["reason"]
    lost = [one for one in read_events(out) if one["event"] == "worker_lost"]
    assert len(lost) > 4
    assert len([line for line in said if "more in" not in line]) == 3, "then they are counted"
    assert sum(int(line.split(" more in")[0].split()[-1]) for line in said if "more in" in line) == len(lost) - 3
    vectors = found.vectors()
    assert np.isnan(vectors[19]).all()
    rest = [row for row in range(48) if row != 19]
    np.testing.assert_array_equal(vectors[rest], fake_vectors([texts[row] for row in rest], 16))
    assert cli("verify", out, "--json").json["ok"] is True


def test_a_text_too_large_for_the_device_is_quarantined_alone(cli: Any, corpus_of: Any, tmp_path: Path) -> None:
    texts = [f"text {row} " + "x" * 400 for row in range(64)]
    texts[5] = "y" * 5_000
    out = tmp_path / "run"
    source = corpus_of(tmp_path / "corpus.jsonl", texts)
    done = cli(*arguments(source, out, "fake:16,oom_above=1000", "--json"), code=3).json
    assert (done["committed"], done["quarantined"]) == (63, 1)
    (bad,) = open_run(out).quarantine
    assert bad["id"] == "c5"
    assert "out of memory" in bad["reason"]


def test_a_full_disk_ends_the_run_with_one_message(
    start: Any, cli: Any, many: Path, tmp_path: Path, until: Any, expected: bytes
) -> None:
    out = tmp_path / "run"
    command = start(*arguments(many, out))
    until(out, "segment_committed")
    folder, moved = out / "vectors" / "dense-fake-64", out / "moved"
    folder.rename(moved)
    folder.write_text("a file where the folder was")
    command.wait(1)
    assert "results cannot be written" in command.err
    assert "Traceback" not in command.err
    folder.unlink()
    moved.rename(folder)
    cli(*arguments(many, out))
    is_whole(out, expected)


def test_every_process_of_a_run_is_gone_when_it_ends(start: Any, many: Path, tmp_path: Path) -> None:
    command = start(*arguments(many, tmp_path / "run"))
    command.child("embedfleet.worker")
    command.wait(0)
    assert len(command.tree) >= 3
    command.all_gone(1.0)
