"""Processes killed and stopped at random, in all their roles: nothing lost, nothing twice, nothing left behind.

`pytest tests/chaos --kills 200` (`make chaos`) is the long form; `--seed N` strikes in another order. A run directory is
taken through as many commands as it needs; then the next one begins, until there were so many kills.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from embedfleet import open_run
from embedfleet.client.verify import verify_run

from .conftest import COMMAND, ROWS
from .monkey import Monkey

KILLS = 8
A_COMMAND = 6
"""Blows at one command at most: then it may end."""
MOST_COMMANDS = 40
RESUMABLE = {0, 1, 3, -9}
"""0 and 3: done; 1: a device or the exporter was lost too often; -9: the command itself was killed."""


def arguments(corpus: Path, out: Path) -> list[str]:
    models = ["--dense", "fake:32,delay_ms=120", "--dense", "fake:16,delay_ms=60"]
    where = ["--devices", "cpu:2" if (psutil.cpu_count() or 1) > 1 else "cpu", "--index", "none"]
    return [COMMAND, "run", str(corpus), "--out", str(out), *models, *where, "--batch-timeout", "5"]


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of everything that is committed."""
    found = [*out.glob("vectors/*/*.parquet"), *out.glob("chunks/*.parquet")]
    return {str(path.relative_to(out)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.mark.timeout(3_000)
def test_nothing_is_lost_doubled_or_left_behind(
    corpus: Path, expected: dict[str, bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = request.config.getoption("--kills") or KILLS
    seed = request.config.getoption("--seed") or 0
    monkey = Monkey(random.Random(seed))
    runs = commands = 0
    began = time.monotonic()
    while monkey.kills < wanted:
        out = tmp_path / f"run-{runs}"
        runs += 1
        standing: dict[str, tuple[int, int]] = {}
        code = None
        for _ in range(MOST_COMMANDS):
            commands += 1
            with tempfile.TemporaryFile() as errors:
                command = psutil.Popen(arguments(corpus, out), stdout=errors, stderr=errors, start_new_session=True)
                monkey.play(command, A_COMMAND if monkey.kills < wanted else 0)
                code = command.wait()
                errors.seek(0)
                said = errors.read().decode()
            assert code in RESUMABLE, f"seed {seed}, exit code {code}: {said}"
            assert "Traceback" not in said
            assert monkey.orphans(5.0) == [], f"seed {seed}: left behind by {said}"
            now = stamps(out)
            assert {name: now.get(name) for name in standing} == standing, f"seed {seed}: committed twice, or gone"
            standing = now
            if code in (0, 3):
                break
        assert code == 3, f"seed {seed}: not done after {MOST_COMMANDS} commands"  # the line that is no JSON
        found, report = open_run(out), verify_run(out)
        assert report.problems == []
        assert (len(found.ids), len(set(found.ids)), len(found.quarantine)) == (ROWS, ROWS, 1)
        assert {name: found.vectors(name).tobytes() for name in found.vector_names} == expected
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"\n{monkey.kills} kills, {runs} runs, {commands} commands, {seconds:.0f} s; "
        f"0 lost, 0 doubled, 0 orphans; {dict(monkey.blows)}\n"
    )
