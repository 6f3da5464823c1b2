"""The pool in seeded worlds: after every step the invariants of `tests/simulation.py` hold, and everything ends.

`pytest tests/unit/coordinator/core/test_simulation.py --seed N` replays one;
`python tests/simulation.py --seeds 0:10000` runs many.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ....simulation import SCENARIOS, World

STEPS, THOROUGH_STEPS = 250_000, 1_000_000
"""In each test run, whoever shares the work; and with `--thorough`."""
SHARES = 25
WORLDS = 1_000_000
"""More than any share takes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" not in metafunc.fixturenames:
        return
    only, worlds = metafunc.config.getoption("--seed"), metafunc.config.getoption("--worlds")
    if only is None and worlds is None:
        metafunc.parametrize("seeds", [range(first, WORLDS, SHARES) for first in range(SHARES)], ids=range(SHARES))
    else:
        seeds = range(worlds) if only is None else [only]
        metafunc.parametrize("seeds", [range(seed, seed + 1) for seed in seeds], ids=seeds)


def take_steps(seeds: Iterable[int], enough: int) -> int:
    """Run the seeds' worlds until they have taken enough steps; how many."""
    steps = 0
    for seed in seeds:
        world = World(seed)
        try:
            world.run()
        except Exception as error:
            error.add_note(f"replay it with --seed {seed}")
            raise
        steps += world.steps
        if steps >= enough:
            break
    return steps


def test_no_row_is_lost_and_everything_ends(seeds: range, request: pytest.FixtureRequest) -> None:
    enough = (THOROUGH_STEPS if request.config.getoption("--thorough") else STEPS) // SHARES
    assert take_steps(seeds, enough) >= enough or len(seeds) == 1, "all shares together take as many as that"


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)), ids=[scenario.name for scenario in SCENARIOS])
def test_a_seed_is_replayed_step_by_step(scenario: int) -> None:
    ends: list[tuple[float, int, object]] = []
    for _ in range(2):
        world = World(scenario)
        world.run()
        ends.append((world.now, world.steps, world.durable))
    assert ends[0] == ends[1]
