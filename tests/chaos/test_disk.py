"""A disk that fails: the commit killed at each of its system calls, a full file system, an fsync that fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.exporter.run_directory.owned_directory import RunDirectory
from embedfleet.protocol.run_directory.atomic_files import partial_of
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.own_files import read_owner
from embedfleet.protocol.run_directory.segment_info import ChunkSegmentInfo, Cursor, VectorSegmentInfo
from embedfleet.protocol.run_directory.tables import CHUNK_SCHEMA, dense_vectors, digest, read_info, with_info
from embedfleet.protocol.spec.run_spec import RunSpec
from embedfleet.tests.forked_commands import ForkedCommands
from embedfleet.worker.converted.cache import Conversions

from . import one_commit, one_conversion
from .conftest import COMMAND
from .tracing import run_traced


def works(*command: str) -> bool:
    """Whether this host lets us do that: a container may forbid tracing and mounting."""
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def needs(reason: str, *command: str) -> pytest.MarkDecorator:
    """Skips where the host does not let us do that; under CI the test runs all the same, and fails."""
    return pytest.mark.skipif("CI" not in os.environ and not works(*command), reason=reason)


traced = needs("strace cannot trace here", "strace", "-o", os.devnull, "true")
mounted = needs("no namespace may be made here", "unshare", "-Urm", "true")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    """A run directory with one chunk segment, before its first vector segment."""
    found = RunLayout(tmp_path / "run")
    found.vector_folder(one_commit.PASS.vector).mkdir(parents=True)
    found.chunks.mkdir()
    found.spec.write_bytes(msgspec.json.encode(RunSpec(source="-", passes=(one_commit.PASS,), index="none")))
    rows = range(one_commit.ROWS)
    columns = [list(rows), [f"c{row}" for row in rows], [f"text {row}" for row in rows], [None] * 5, [6] * 5]
    info = ChunkSegmentInfo(segment=0, first_row=0, rows=5, rejected=0, duplicates=0, cursor=Cursor())
    table = pa.Table.from_arrays(
        [pa.array(one, field.type) for one, field in zip(columns, CHUNK_SCHEMA, strict=True)], schema=CHUNK_SCHEMA
    )
    pq.write_table(with_info(table, info), found.chunk_segment(0))
    return found


@pytest.fixture
def commit(forked: ForkedCommands, layout: RunLayout) -> Callable[..., tuple[int, list[str]]]:
    """Commits the segment in a process of its own under `strace OPTIONS`: its exit code and what it output."""
    return partial(run_traced, forked, "embedfleet.tests.chaos.one_commit", [str(layout.root)])


def stands_whole(layout: RunLayout) -> bool:
    """Whether the segment stands; if so, every number in it is checked. What a resume would remove is removed."""
    spec = read_owner(layout)
    assert spec is not None
    directory = RunDirectory(layout.root, spec, restart=False)
    try:
        committed = directory.committed(0)
    finally:
        directory.release()
    if not committed:
        return False
    path = layout.vector_segment(one_commit.PASS.vector, 0)
    table = pq.read_table(path)
    assert digest(table) == read_info(path, VectorSegmentInfo).digest
    np.testing.assert_array_equal(dense_vectors(table), one_commit.vectors())
    return True


@traced
@pytest.mark.timeout(600)
def test_killed_at_any_system_call_a_commit_is_whole_or_not_there(layout: RunLayout, commit: Any) -> None:
    final = layout.vector_segment(one_commit.PASS.vector, 0)
    touched = [part for path in (partial_of(final), final, final.parent) for part in ("-P", str(path))]
    log = layout.root.parent / "calls"
    assert commit("-o", str(log), *touched) == (0, ["ready", "acknowledged"])
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
    assert calls["fsync"] == 2, "the file, then its folder"
    outcomes: Counter[bool] = Counter()
    for call, times in calls.items():
        for time in range(1, times + 1):
            final.unlink(missing_ok=True)
            killed = f"-einject={call}:signal=KILL:when={time}"
            code, output = commit("-o", os.devnull, *touched, killed)
            assert (code != 0, output[:1]) == (True, ["ready"]), f"killed at {call} {time}"
            stands = stands_whole(layout)
            assert stands or "acknowledged" not in output, f"acknowledged, and gone: killed at {call} {time}"
            outcomes[stands] += 1
    assert outcomes[True] >= 3, "some kills come after the rename"
    assert outcomes[False] > 10, "and more before it"


@traced
def test_an_fsync_that_fails_is_told_and_nothing_is_acknowledged(layout: RunLayout, commit: Any) -> None:
    final = layout.vector_segment(one_commit.PASS.vector, 0)
    for path in (partial_of(final), final.parent):
        final.unlink(missing_ok=True)
        code, output = commit("-o", os.devnull, "-P", str(path), "-einject=fsync:error=EIO")
        assert (code, output) == (1, ["ready"])
        assert not partial_of(final).exists()


@traced
def test_a_run_whose_disk_does_not_sync_ends_with_one_message_and_resumes(
    forked: ForkedCommands, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    folder = out / "vectors" / "dense-fake-32"
    command = arguments(corpus, out)
    failing = ["strace", "-f", "-o", os.devnull, "-P", str(folder), "-einject=fsync:error=EIO:when=2"]
    done = subprocess.run([*failing, *command], capture_output=True, timeout=150)
    output = done.stderr.decode()
    assert done.returncode == 1, output
    assert "results cannot be written" in output
    assert "Input/output error" in output
    assert "Traceback" not in output
    assert in_a_fork(forked, command) == 3
    assert open_run(out).complete


@mounted
def test_a_full_disk_ends_the_run_and_with_room_it_completes(
    corpus: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """In a mount namespace of its own, on a small tmpfs that is made larger afterwards."""
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    run = " ".join(arguments(corpus, small / "run"))
    script = f"""
        mount -t tmpfs -o size=5m tmpfs {small} || exit 90
        {run} 2> {tmp_path}/first; echo $? > {tmp_path}/codes
        mount -o remount,size=200m {small}
        {run} 2> {tmp_path}/second; echo $? >> {tmp_path}/codes
        cp -r {small}/run {kept}
    """
    subprocess.run(["unshare", "-Urm", "sh", "-c", script], check=True, timeout=150)
    first = (tmp_path / "first").read_text()
    assert (tmp_path / "codes").read_text().split() == ["1", "3"], first + (tmp_path / "second").read_text()
    assert "No space left on device" in first
    assert "Traceback" not in first
    assert open_run(kept).vectors().tobytes() == expected["dense-fake-32"]
    assert len(list((kept / "vectors" / "dense-fake-32").glob("*.parquet"))) == 3
    shutil.rmtree(kept)


def arguments(corpus: Path, out: Path) -> Sequence[str]:
    return [COMMAND, "run", str(corpus), "--out", str(out), "--dense", "fake:32", "--devices", "cpu", "--index", "none"]


def in_a_fork(forked: ForkedCommands, command: Sequence[str]) -> int:
    """Run such a command to its end; its exit code."""
    with open(os.devnull, "r+b") as nothing:
        return forked.call(command[1:], [nothing.fileno()] * 3, None, 90)


def test_every_line_of_the_quarantine_is_there(forked: ForkedCommands, corpus: Path, tmp_path: Path) -> None:
    """The corpus has one line that is no JSON: the undisturbed run says so, as the disturbed ones have to."""
    out = tmp_path / "run"
    assert in_a_fork(forked, arguments(corpus, out)) == 3
    (line,) = (out / "quarantine.jsonl").read_text().splitlines()
    assert "not JSON" in json.loads(line)["reason"]


@traced
def test_killed_at_any_system_call_a_conversion_is_whole_or_not_there(tmp_path: Path) -> None:
    conversions, log = Conversions(tmp_path / "models"), tmp_path / "calls"
    script = [sys.executable, one_conversion.__file__, str(conversions.folder)]

    def stored(*options: str) -> tuple[int, list[str]]:
        variables = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # such files would be written by the first process only
        done = subprocess.run(["strace", "-f", *options, *script], env=variables, capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode().split()

    traced_calls = ("mkdir", "rename", "fsync", "write")
    assert stored("-o", str(log), "-e", f"trace={','.join(traced_calls)}") == (0, ["ready", "acknowledged"])
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
    assert calls["rename"] == 2, "the folder, then its last file"
    outcomes: Counter[bool] = Counter()
    for call in traced_calls:
        for time in range(1, calls[call] + 1):
            shutil.rmtree(conversions.folder)
            code, output = stored("-o", os.devnull, f"-einject={call}:signal=KILL:when={time}")
            assert code != 0, f"not killed at {call} {time}"
            is_there = conversions.folder.exists() and conversions.find(one_conversion.KEY) is not None
            assert is_there or "acknowledged" not in output, f"acknowledged, and gone: killed at {call} {time}"
            outcomes[is_there] += 1
            one_conversion.store(conversions)
            assert isinstance(conversions.find(one_conversion.KEY), Path), f"killed at {call} {time}"
            assert not list(conversions.folder.glob("*.tmp")), "what the killed process left is gone"
    assert outcomes[True] >= 1, "some kills come after the last file"
    assert outcomes[False] > 10, "and more before it"
