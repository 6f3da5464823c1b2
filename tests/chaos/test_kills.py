"""Processes killed and stopped at random, in all their roles: nothing lost, nothing twice, nothing left behind.

`pytest tests/chaos --kills 200` (`make chaos`) is the long form; `--seed N` strikes in another order. A run directory is
taken through as many commands as it needs; then the next one begins, until there were so many kills.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from embedfleet import open_run
from embedfleet.tests.forked_commands import ForkedCommands

from .conftest import ROWS
from .monkey import Monkey
from .rounds import Rounds, Undisturbed, Work, content

KILLS = 8
TWO = ("--dense", "fake:32,delay_ms=60", "--dense", "fake:16,delay_ms=30")
THREE_OPEN = tuple(f"{one},depth=3" if one.startswith("fake:") else one for one in TWO)
"""The same with up to three micro-batches open in each worker."""
KINDS = {
    "two models": (*TWO, "--index", "none"),
    "three open": (*THREE_OPEN, "--index", "none"),
    "all of it": (*TWO, "--sparse", "bm25", "--store", "int8", "--ensemble", "concat", "--index", "edge"),
}
"""What a run is asked for; the kinds of a form take turns."""
FORMS = [("two models", "all of it"), ("three open",)]


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("form", FORMS, ids=["as it is", "three open"])
def test_nothing_is_lost_doubled_or_left_behind(
    forked: ForkedCommands,
    corpus: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    form: tuple[str, ...],
) -> None:
    seed = request.config.getoption("--seed") or 0
    sys.stdout.write(f"\nseed {seed}: ")  # seen where the test fails
    monkey = Monkey(random.Random(seed))
    work = Work(corpus, ROWS, KINDS)
    undisturbed = Undisturbed(forked, work, tmp_path)

    def check(kind: str, out: Path) -> None:
        if kind == "all of it":
            assert content(out) == undisturbed.of(kind), f"a run of {kind} says something else"
            return
        found = open_run(out)
        assert {name: found.vectors(name).tobytes() for name in found.vector_names} == expected

    kinds = monkey.rng.sample(form, len(form))
    wanted = request.config.getoption("--kills") or KILLS
    figures = Rounds(forked, work, undisturbed, monkey, check).play(tmp_path, kinds, wanted)
    sys.stdout.write(f"{figures}\n")
