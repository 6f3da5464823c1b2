"""Rounds of a chaos test: runs are disturbed until there were enough kills, and each result is compared."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson
import psutil
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.run_directory.tables import digest
from embedfleet.tests.forked_commands import ForkedCommands

from .conftest import COMMAND
from .monkey import Command, Monkey

A_COMMAND = 6
"""Blows at one command at most: then it may end."""
A_PAUSE = 0.2
"""Between two blows, on average, of the time that a run takes undisturbed, on a host of any speed."""
MOST_COMMANDS = 40
SLOWER = 1.5
"""How much longer the pauses are after a command that committed nothing."""
RESUMABLE = {0, 1, 3, -9}
"""0 and 3: done; 1: a device or the exporter was lost too often; -9: the command itself was killed."""


class RealCommands:
    """Starts commands as a user does."""

    def start(self, args: Sequence[str], streams: Sequence[int]) -> subprocess.Popen[bytes]:
        """Start `embedfleet ARGS` with these three descriptors as its standard streams, in a session of its own."""
        stdin, stdout, stderr = streams
        return subprocess.Popen([COMMAND, *args], stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)


Commands = ForkedCommands | RealCommands


@dataclass(frozen=True)
class Work:
    """What is computed: a corpus of `rows` chunks and one line that is no JSON, by flags that have a name, the kind."""

    corpus: Path
    rows: int
    flags: Mapping[str, Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the command, in addition to that of the tests."""

    def start(self, commands: Commands, out: Path, kind: str, heard: IO[bytes]) -> Command:
        """Start the command, which writes into `heard`."""
        where = ["--devices", "cpu:2" if (psutil.cpu_count() or 1) > 1 else "cpu", "--batch-timeout", "5"]
        arguments = ["run", str(self.corpus), "--out", str(out), *self.flags[kind], *where]
        with open(os.devnull, "rb") as nothing, pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return commands.start(arguments, [nothing.fileno(), heard.fileno(), heard.fileno()])


class Undisturbed:
    """What runs of each kind come to where nobody is killed; made when it is first asked for."""

    def __init__(self, commands: Commands, work: Work, folder: Path) -> None:
        self._starter, self._work, self._folder = commands, work, folder
        self._found: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}

    def out(self, kind: str) -> Path:
        """The run directory."""
        out = self._folder / f"undisturbed {kind}"
        if kind not in self._found:
            began = time.monotonic()
            with tempfile.TemporaryFile() as heard:
                code = self._work.start(self._starter, out, kind, heard).wait(120)
                heard.seek(0)
                assert code == 3, heard.read().decode()  # the line that is no JSON
            self.seconds[kind] = time.monotonic() - began
            self._found[kind] = content(out)
        return out

    def of(self, kind: str) -> dict[str, str]:
        """The `content` of the run directory."""
        self.out(kind)
        return self._found[kind]


def content(out: Path) -> dict[str, str]:
    """By vector, the digests of all that its segments say, as they are kept."""
    found: dict[str, str] = {}
    for folder in sorted((out / "vectors").iterdir()):
        tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
        found[folder.name] = " ".join(digest(table) for table in tables)
    return found


def commits(out: Path, since: int) -> tuple[Counter[tuple[str, int]], int]:
    """How often each segment was committed, by the events from this place of the file on; and where the file ends."""
    path = out / "events.jsonl"
    lines = path.read_bytes()[since:].split(b"\n") if path.exists() else []
    committed: Counter[tuple[str, int]] = Counter()
    for line in lines:
        with contextlib.suppress(orjson.JSONDecodeError):  # an exporter was killed as it wrote it
            event = orjson.loads(line)
            if event["event"] == "segment_committed":
                committed[event["vector"], event["segment"]] += 1
    return committed, path.stat().st_size if path.exists() else 0


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of everything that is committed."""
    found = [*out.glob("vectors/*/*.parquet"), *out.glob("chunks/*.parquet")]
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


class Removed:
    """What committed files that somebody removed, and that have not been made again since, take with them."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = set(names)
        self._chunks = any(name.startswith("chunks/") for name in names)

    def is_excused(self, name: str) -> bool:
        """Whether the file may be another one than before: chunks behind a gap are read again, and an ensemble is made anew."""
        return name in self._names or (self._chunks and name.startswith("chunks/")) or self._derives(name)

    def excuse(self, vector: str, segment: int) -> bool:
        """Whether the segment may be committed twice in one command."""
        return self.is_excused(f"vectors/{vector}/{segment:05d}.parquet")

    def _derives(self, name: str) -> bool:
        members = {one.rsplit("/", 1)[-1] for one in self._names if one.startswith("vectors/")}
        return name.startswith("vectors/ensemble") and name.rsplit("/", 1)[-1] in members


class Rounds:
    """Disturbs runs of some work. `check(kind, out)` compares the vectors of each run that is done."""

    def __init__(
        self,
        commands: Commands,
        work: Work,
        undisturbed: Undisturbed,
        monkey: Monkey,
        check: Callable[[str, Path], None],
    ) -> None:
        self._starter = commands
        self._work, self._undisturbed, self._monkey, self._check = work, undisturbed, monkey, check
        self._commands = 0

    def play(self, folder: Path, kinds: Sequence[str], wanted: int) -> str:
        """Disturb runs, whose kinds take turns, until there were `wanted` kills. Returns the figures in one line."""
        runs, began, monkey = 0, time.monotonic(), self._monkey
        while monkey.kills < wanted:
            out, kind = folder / f"run-{runs}", kinds[runs % len(kinds)]
            monkey.out, monkey.removed = out, set()
            runs += 1
            self._undisturbed.of(kind)
            monkey.pause = self._undisturbed.seconds[kind] * A_PAUSE  # some blows come before any commit, some after
            self._complete(out, kind, wanted)
            found, report = open_run(out), verify_run(out)
            assert report.problems == [], f"{report.problems} after {dict(monkey.blows)}"
            rows = self._work.rows
            assert (len(found.ids), len(set(found.ids)), len(found.quarantine)) == (rows, rows, 1)
            self._check(kind, out)
        return (
            f"{monkey.kills} kills, {runs} runs, {self._commands} commands, {time.monotonic() - began:.0f} s; "
            f"0 lost, 0 doubled, 0 orphans; {dict(monkey.blows)}"
        )

    def _complete(self, out: Path, kind: str, wanted: int) -> None:
        """Commands on one run directory, each disturbed, until the run is done."""
        standing: dict[str, tuple[int, int]] = {}
        code, read, output = None, 0, ""
        for _ in range(MOST_COMMANDS):
            code, output = self._command(out, kind, A_COMMAND if self._monkey.kills < wanted else 0)
            assert code in RESUMABLE, f"exit code {code}: {output}"
            assert "Traceback" not in output, output
            assert self._monkey.orphans(5.0) == [], f"left behind by {output}"
            committed, read = commits(out, read)
            standing = self._compare(out, committed, standing)
            if not committed:  # the host is slower than it was when the undisturbed run was made
                self._monkey.pause *= SLOWER
            if code in (0, 3) and not self._monkey.removed:  # one that went at the end is missed by the next command
                break
        assert code == 3, f"not done after {MOST_COMMANDS} commands: {output}"  # the line that is no JSON

    def _command(self, out: Path, kind: str, most: int) -> tuple[int, str]:
        """One command and what it wrote; of every third one, no message can be written."""
        self._commands += 1
        with tempfile.TemporaryFile() as errors, open("/dev/full", "wb") as full:
            heard = full if self._commands % 3 == 0 else errors
            command = self._work.start(self._starter, out, kind, heard)
            self._monkey.play(command, most)
            code = command.wait()
            errors.seek(0)
            return code, errors.read().decode()

    def _compare(
        self, out: Path, committed: Counter[tuple[str, int]], standing: dict[str, tuple[int, int]]
    ) -> dict[str, tuple[int, int]]:
        """Nothing is committed twice or gone, but for what was removed. Returns what stands now."""
        gone = Removed(self._monkey.removed)
        twice = [one for one, times in committed.items() if times > 1 and not gone.excuse(*one)]
        assert twice == [], "committed twice"
        now = stamps(out)
        kept = {name: stamp for name, stamp in standing.items() if not gone.is_excused(name)}
        assert {name: now.get(name) for name in kept} == kept, "committed twice, or gone"
        # The next command reads or computes again what is not there.
        self._monkey.removed = {name for name in self._monkey.removed if name not in now}
        return now
