"""Each mutant of `tests/mutants/table.py` is noticed: a defect in the core or in the commit path that no test fails on is
a test that is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ..mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
FEWER = ("--worlds", "200", "--power-cuts", "600")
NOTICED, PASSED = 1, 0
"""pytest's exit codes; any other says that the tests were not run."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package's sources and tests, to be changed."""
    folder = tmp_path_factory.mktemp("mutants") / "embedfleet"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "demo", "build", "dist", "*.egg-info", "benchmarks")
    shutil.copytree(ROOT, folder, ignore=ignored)
    yield folder
    shutil.rmtree(folder)


def outcome(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code, and what it said."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *FEWER, *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=170)
    return done.returncode, done.stdout[-2_000:] + done.stderr[-2_000:]


def test_without_a_mutant_the_tests_pass(copy: Path) -> None:
    code, said = outcome(copy, sorted({test for one in MUTANTS for test in one.tests}))
    assert code == PASSED, said


def test_they_are_enough() -> None:
    assert len(MUTANTS) >= 12
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.name for one in MUTANTS])
def test_a_mutant_is_noticed(mutant: Mutant, copy: Path) -> None:
    path = copy / mutant.file
    source = path.read_text()
    assert source.count(mutant.before) == 1, f"{mutant.file} no longer has this once: {mutant.before!r}"
    path.write_text(source.replace(mutant.before, mutant.after))
    try:
        code, said = outcome(copy, mutant.tests)
    finally:
        path.write_text(source)
    assert code == NOTICED, said
