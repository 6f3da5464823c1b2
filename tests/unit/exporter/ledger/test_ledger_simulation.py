"""The ledger in seeded worlds: at every step the invariants of `tests/ledger_simulation.py` hold, and every run ends.

`pytest tests/unit/exporter/ledger/test_ledger_simulation.py --seed N` replays one; `--worlds N` runs so many.
"""

from __future__ import annotations

import pytest

from ....ledger_simulation import World

SEEDS = 600


def test_nothing_is_lost_made_twice_or_acknowledged_too_early(request: pytest.FixtureRequest) -> None:
    only = request.config.getoption("--seed")
    seeds = [only] if only is not None else range(request.config.getoption("--worlds") or SEEDS)
    for seed in seeds:
        world = World(seed)
        try:
            world.run()
        except (AssertionError, LookupError) as error:
            raise AssertionError(f"seed {seed}, session {world.sessions}, step {world.steps}: {error!r}") from error


def test_a_seed_is_replayed() -> None:
    ends: list[object] = []
    for _ in range(2):
        world = World(7)
        world.run()
        ends.append((world.sessions, world.steps, world.files))
    assert ends[0] == ends[1]


def test_worlds_have_sessions_that_end_early() -> None:
    sessions: list[int] = []
    for seed in range(50):
        world = World(seed)
        world.run()
        sessions.append(world.sessions)
    assert min(sessions) == 1
    assert max(sessions) > 3
