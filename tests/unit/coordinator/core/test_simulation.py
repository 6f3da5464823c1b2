"""The pool in seeded worlds: after every step the invariants of `tests/simulation.py` hold, and everything ends.

`pytest tests/unit/coordinator/core/test_simulation.py --seed N` replays one;
`python tests/simulation.py --seeds 0:10000` runs many.
"""

from __future__ import annotations

import pytest

from ....simulation import SCENARIOS, World

SEEDS = 1_100
STEPS: dict[int, int] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        only, worlds = metafunc.config.getoption("--seed"), metafunc.config.getoption("--worlds") or SEEDS
        metafunc.parametrize("seed", range(worlds) if only is None else [only])


def test_no_row_is_lost_and_everything_ends(seed: int) -> None:
    world = World(seed)
    world.run()
    STEPS[seed] = world.steps


def test_the_seeds_are_enough() -> None:
    if len(STEPS) < SEEDS:
        pytest.skip("not every seed was run")
    assert sum(STEPS.values()) >= 1_000_000


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)), ids=[scenario.name for scenario in SCENARIOS])
def test_a_seed_is_replayed_step_by_step(scenario: int) -> None:
    ends: list[tuple[float, int, object]] = []
    for _ in range(2):
        world = World(scenario)
        world.run()
        ends.append((world.now, world.steps, world.durable))
    assert ends[0] == ends[1]
