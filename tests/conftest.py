"""Options that replay a seed, or make more of what a seed makes; and how Hypothesis draws: the same examples every time.

`--hypothesis-seed N` draws others, and the same ones for the same N; `--hypothesis-profile explore` draws many, at random.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Read as torch is imported, here and in all children: threads that wait for each other sleep. By default they spin, which
# takes the cores from the tests beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No database: what failed once on a machine must not decide what is tried there next.
settings.register_profile("stable", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("seeded", derandomize=False, deadline=None, database=None, print_blob=True)
settings.register_profile("explore", settings.get_profile("seeded"), max_examples=2_000)
settings.load_profile("stable")


LOADING = (
    *(f"unit/worker/{folder}/" for folder in ("converted", "encoders", "backends", "plain", "models")),
    *(f"service/test_{name}.py" for name in ("dense_model", "evaluation", "every_signal")),
    "process/test_converted.py",
)
"""Tests that load models in the tests' own process."""
CLUSTERED = "test_ray.py"
"""Its tests share a cluster, which takes half a minute to start."""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[None]:
    """Digests of weights and converted models are kept for the tests alone: once for all processes that run them."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # one of several, whose folder is in that of the session
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=None, help="replay this seed of the simulation; begin the cuts with it"
    )
    parser.addoption("--worlds", type=int, default=None, help="how many seeds of the simulation to run")
    parser.addoption("--power-cuts", type=int, default=None, help="how many power cuts to make")
    parser.addoption(
        "--thorough",
        action="store_true",
        help="take all worlds and cuts of docs/reliability.md, not a quarter; more kills",
    )
    parser.addoption("--kills", type=int, default=None, help="how many kills the chaos tests make")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that load models come last: a process of some gigabytes is slow to fork, and most tests fork.

    Of several processes, each begins with an equal part of the list, and one that is done takes from the end of another's.
    There they come first, so that one process alone imports torch, and after them those that start the fewest processes. The
    part of the last process begins with the tests that share a cluster: it alone starts one.
    """
    folder = Path(__file__).parent
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)

    def key(item: pytest.Item) -> tuple[bool, bool]:
        path = item.path.relative_to(folder).as_posix()
        if workers == 1:
            return path.startswith(LOADING), False
        return not path.startswith(LOADING), not path.startswith("unit/")

    items.sort(key=key)
    if workers > 1:
        clustered = [item for item in items if item.path.name == CLUSTERED]
        items[:] = [item for item in items if item.path.name != CLUSTERED]
        start = len(items) + len(clustered) - (len(items) + len(clustered)) // workers
        items[start:start] = clustered


def pytest_collection_finish() -> None:
    """Thousands of tests stay in memory: the garbage collector need not look at them again, nor in a fork copy them."""
    if "torch" in sys.modules:
        raise pytest.UsageError("A module of tests imports torch as it is collected; see tests/optional_packages.py.")
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    # Derandomized, Hypothesis would ignore the seed that it is given.
    if config.getoption("--hypothesis-seed") is not None and config.getoption("--hypothesis-profile") is None:
        settings.load_profile("seeded")
