"""Each mutant of `tests/mutants/table.py` is noticed: a defect in the core or in the commit path that no test fails on is
a test that is missing."""

from __future__ import annotations

import compileall
import json
import os
import queue
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from ....mutants import sessions
from ....mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[4]
FEW = ("--worlds", "20", "--power-cuts", "100")
FEWER = ("--worlds", "200", "--power-cuts", "600")
AT_ONCE = min(2, os.cpu_count() or 1)
COMPILED = ("protocol", "coordinator", "exporter", "client")
"""The packages that are imported here; all files that have mutants are among them."""
NOTICED, PASSED = 1, 0
"""pytest's exit codes; any other says that the tests were not run."""


class Checkout:
    """A copy of the package's sources and tests, to be changed, and a process that runs its tests.

    The sources are compiled once. That a file is a mutant shows in its hash: its size and its time need not tell.
    """

    def __init__(self, folder: Path, like: Checkout | None = None) -> None:
        self.root = folder / "embedfleet"
        if like is None:
            ignored = shutil.ignore_patterns(".*", "__pycache__", "demo", "build", "dist", "*.egg-info", "benchmarks")
            shutil.copytree(ROOT, self.root, ignore=ignored)
            for package in COMPILED:
                compileall.compile_dir(self.root / package, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        else:
            shutil.copytree(like.root, self.root)
        self._process = subprocess.Popen(
            [sys.executable, sessions.__file__, str(self.root)],
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def outcome(self, tests: Sequence[str], how_many: Sequence[str] = FEWER) -> tuple[int, str]:
        """pytest's exit code, and what it said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        arguments = ["-x", "-q", "-p", "no:cacheprovider", *how_many, *tests]
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        code, said = json.loads(self._process.stdout.readline())
        return code, said

    def with_mutant(self, mutant: Mutant) -> tuple[int, str]:
        """The outcome of its tests while it is there."""
        path = self.root / mutant.file
        source = path.read_text()
        assert source.count(mutant.before) == 1, f"{mutant.file} no longer has this once: {mutant.before!r}"
        path.write_text(source.replace(mutant.before, mutant.after))
        try:
            return self.outcome(mutant.tests)
        finally:
            path.write_text(source)

    def close(self) -> None:
        with self._process:
            self._process.kill()
        shutil.rmtree(self.root)


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[queue.SimpleQueue[Checkout]]:
    """Those that nobody uses at the moment."""
    made = [Checkout(tmp_path_factory.mktemp("mutants"))]
    made += [Checkout(tmp_path_factory.mktemp("mutants"), like=made[0]) for _ in range(1, AT_ONCE)]
    free: queue.SimpleQueue[Checkout] = queue.SimpleQueue()
    for one in made:
        free.put(one)
    yield free
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def outcomes(
    checkouts: queue.SimpleQueue[Checkout], request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """By mutant, of those that are asked for: they are tried some at a time, while the tests below wait for them."""

    def attempt(mutant: Mutant) -> tuple[int, str]:
        checkout = checkouts.get()
        try:
            return checkout.with_mutant(mutant)
        finally:
            checkouts.put(checkout)

    calls = [getattr(item, "callspec", None) for item in request.session.items]
    asked = [call.params["mutant"] for call in calls if call is not None and "mutant" in call.params]
    pool = ThreadPoolExecutor(AT_ONCE)
    yield {mutant.name: pool.submit(attempt, mutant) for mutant in asked}
    pool.shutdown(cancel_futures=True)


def test_without_a_mutant_the_tests_pass(checkouts: queue.SimpleQueue[Checkout]) -> None:
    """What notices the mutants is the mutants, and not the copy. How often they pass is seen where they are run as they are."""
    checkout = checkouts.get()
    try:
        code, said = checkout.outcome(sorted({test for one in MUTANTS for test in one.tests}), FEW)
    finally:
        checkouts.put(checkout)
    assert code == PASSED, said


def test_they_are_enough() -> None:
    assert len(MUTANTS) >= 12
    assert {mutant.file.split("/")[0] for mutant in MUTANTS} <= {*COMPILED}
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[one.name for one in MUTANTS])
def test_a_mutant_is_noticed(mutant: Mutant, outcomes: dict[str, Future[tuple[int, str]]]) -> None:
    code, said = outcomes[mutant.name].result(timeout=170)
    assert code == NOTICED, said
