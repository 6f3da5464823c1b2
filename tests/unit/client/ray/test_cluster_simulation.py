"""The simulation of a cluster, on a small one: what it says must follow from what it is given."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[4] / "benchmarks" / "cluster_simulation.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("embedfleet_cluster_simulation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def cluster(simulation: Any, **changes: float) -> Any:
    given = {
        "chunks": 1e6,
        "shards": 40,
        "nodes": 4,
        "rate": 100.0,
        "start": 0.0,
        "next": 0.0,
        "commit": 0.0,
        "spread": 0.0,
    }
    return simulation.Cluster(**given | {"between_losses": 1e12, "replacement": 60.0} | changes)


def test_without_starts_and_losses_it_is_the_ideal(simulation: Any) -> None:
    one = cluster(simulation)
    found = simulation.Simulation(one, 0).run()
    assert found.seconds == pytest.approx(one.ideal)
    assert (found.losses, found.attempts) == (0, 40)


def test_only_a_shard_that_was_not_handed_ahead_pays_a_start(simulation: Any) -> None:
    """The first of each node, and the last: while no more wait than there are nodes, none is handed ahead."""
    one = cluster(simulation, start=10.0, next=1.0)
    assert simulation.Simulation(one, 0).run().seconds == pytest.approx(one.ideal + 2 * 10.0 + 8 * 1.0)


def test_lost_nodes_cost_time_and_no_shard(simulation: Any) -> None:
    one = cluster(simulation, between_losses=400.0, start=1.0, commit=20.0)
    found = simulation.Simulation(one, 0).run()
    assert found.losses > 1
    assert found.attempts > 40
    assert one.ideal < found.seconds < 1.5 * one.ideal
