"""Processes killed and stopped at random, in all their roles: nothing lost, nothing twice, nothing left behind.

`pytest tests/chaos --kills 200` (`make chaos`) is the long form; `--seed N` strikes in another order. A run directory is
taken through as many commands as it needs; then the next one begins, until there were so many kills.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import orjson
import psutil
import pyarrow.parquet as pq
import pytest
from embedfleet import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.run_directory.tables import digest

from .conftest import COMMAND, ROWS
from .monkey import Monkey

KILLS = 8
A_COMMAND = 6
"""Blows at one command at most: then it may end."""
A_PAUSE = 0.2
"""Between two blows, on average, of the time that a run takes undisturbed, on a host of any speed."""
MOST_COMMANDS = 40
RESUMABLE = {0, 1, 3, -9}
"""0 and 3: done; 1: a device or the exporter was lost too often; -9: the command itself was killed."""


TWO = ("--dense", "fake:32,delay_ms=120", "--dense", "fake:16,delay_ms=60")
THREE_OPEN = tuple(f"{one},depth=3" if one.startswith("fake:") else one for one in TWO)
"""The same with up to three micro-batches open in each worker."""
KINDS = {
    "two models": (*TWO, "--index", "none"),
    "three open": (*THREE_OPEN, "--index", "none"),
    "all of it": (*TWO, "--sparse", "bm25", "--store", "int8", "--ensemble", "concat", "--index", "edge"),
}
"""What a run is asked for; the kinds of a form take turns."""


def arguments(corpus: Path, out: Path, kind: str) -> list[str]:
    where = ["--devices", "cpu:2" if (psutil.cpu_count() or 1) > 1 else "cpu", "--batch-timeout", "5"]
    return [COMMAND, "run", str(corpus), "--out", str(out), *KINDS[kind], *where]


class Undisturbed:
    """What runs of each kind come to where nobody is killed; made when it is first asked for."""

    def __init__(self, corpus: Path, folder: Path) -> None:
        self._corpus, self._folder = corpus, folder
        self._found: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}

    def of(self, kind: str) -> dict[str, str]:
        if kind not in self._found:
            out, began = self._folder / kind, time.monotonic()
            done = subprocess.run(arguments(self._corpus, out, kind), capture_output=True, text=True, timeout=120)
            assert done.returncode == 3, done.stderr  # the line that is no JSON
            self.seconds[kind] = time.monotonic() - began
            self._found[kind] = content(out)
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


FORMS = [("two models", "all of it"), ("three open",)]


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("form", FORMS, ids=["as it is", "three open"])
def test_nothing_is_lost_doubled_or_left_behind(
    corpus: Path, expected: dict[str, bytes], tmp_path: Path, request: pytest.FixtureRequest, form: tuple[str, ...]
) -> None:
    wanted = request.config.getoption("--kills") or KILLS
    seed = request.config.getoption("--seed") or 0
    monkey = Monkey(random.Random(seed))
    undisturbed = Undisturbed(corpus, tmp_path)
    kinds = monkey.rng.sample(form, len(form))
    runs = commands = 0
    began = time.monotonic()
    while monkey.kills < wanted:
        out, kind = tmp_path / f"run-{runs}", kinds[runs % len(kinds)]
        monkey.out, monkey.removed = out, set()
        runs += 1
        undisturbed.of(kind)
        monkey.pause = undisturbed.seconds[kind] * A_PAUSE  # some blows come before anything is committed, some after
        standing: dict[str, tuple[int, int]] = {}
        code, read = None, 0
        for _ in range(MOST_COMMANDS):
            commands += 1
            with tempfile.TemporaryFile() as errors, open("/dev/full", "wb") as full:
                heard = full if commands % 3 == 0 else errors  # of every third command no message can be written
                command = psutil.Popen(arguments(corpus, out, kind), stdout=heard, stderr=heard, start_new_session=True)
                monkey.play(command, A_COMMAND if monkey.kills < wanted else 0)
                code = command.wait()
                errors.seek(0)
                said = errors.read().decode()
            assert code in RESUMABLE, f"seed {seed}, exit code {code}: {said}"
            assert "Traceback" not in said
            assert monkey.orphans(5.0) == [], f"seed {seed}: left behind by {said}"
            committed, read = commits(out, read)
            gone = Removed(monkey.removed)
            twice = [one for one, times in committed.items() if times > 1 and not gone.excuse(*one)]
            assert twice == [], f"seed {seed}: committed twice"
            now = stamps(out)
            standing = {name: stamp for name, stamp in standing.items() if not gone.is_excused(name)}
            assert {name: now.get(name) for name in standing} == standing, f"seed {seed}: committed twice, or gone"
            monkey.removed = {name for name in monkey.removed if name not in now}  # the next command reads them again
            standing = now
            if code in (0, 3):
                break
        assert code == 3, f"seed {seed}: not done after {MOST_COMMANDS} commands: {said}"  # the line that is no JSON
        found, report = open_run(out), verify_run(out)
        assert report.problems == []
        assert (len(found.ids), len(set(found.ids)), len(found.quarantine)) == (ROWS, ROWS, 1)
        if kind != "all of it":
            assert {name: found.vectors(name).tobytes() for name in found.vector_names} == expected
        else:
            assert content(out) == undisturbed.of(kind), f"seed {seed}: a run of {kind} says something else"
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"\n{monkey.kills} kills, {runs} runs, {commands} commands, {seconds:.0f} s; "
        f"0 lost, 0 doubled, 0 orphans; {dict(monkey.blows)}\n"
    )
