"""A power cut at any moment of a run: what was acknowledged is there, what stands is whole, and the same run completes.

`pytest tests/unit/exporter/test_power_cut.py --power-cuts 20000` makes so many cuts;
`--seed N` makes others. Each cut is named by a seed of its own, which replays it.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ...power.commit_path import Workload, check, completes
from ...power.disk import Disk, Moment, after_cut

CUTS, THOROUGH_CUTS = 600, 2_000
"""In each test run; and with `--thorough`."""
AN_ORDER = 300
"""After so many cuts the segments come in another order."""
COMPLETED = 25
"""One in so many cuts is followed by the same run to its end."""


class Recorded:
    """The moments of one session, recorded on a disk that makes or drops its syncs."""

    def __init__(self, folder: Path, drops: frozenset[str], seed: int, *, ensemble: bool = False) -> None:
        self.workload = Workload(folder, ensemble=ensemble)
        self._disk = Disk(folder / "disk", drops)
        self._disk.root.mkdir()
        self.workload.begin(self._disk.root / "run", random.Random(seed))
        self._disk.settle()
        with pytest.MonkeyPatch.context() as patch:
            self._disk.record(lambda module, name, value: patch.setattr(module, name, value))
            self.workload.run(self._disk.root / "run", self._disk.mark, random.Random(seed))
        self.moments: list[Moment] = self._disk.moments

    def cut(self, seed: int, into: Path) -> str:
        """What is wrong after one cut; empty where nothing is."""
        rng = random.Random(seed)
        moment = rng.choice(self.moments)
        shutil.rmtree(into, ignore_errors=True)
        after_cut(moment, rng, into)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                os, "fsync", lambda _fd: None
            )  # there is no second cut: the syncs of a real disk would only take time
            return self._wrong(moment, seed, rng, into)

    def _wrong(self, moment: Moment, seed: int, rng: random.Random, into: Path) -> str:
        wrong = check(into / "run", self.workload, moment.marks)
        if not wrong and seed % COMPLETED == 0:
            wrong = completes(into / "run", self.workload, rng)
        return f"cut {seed}, {len(moment.marks)} acknowledgements: {wrong}" if wrong else ""


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Recorded]:
    def begin(*drops: str, seed: int = 0, ensemble: bool = False) -> Recorded:
        folder = tmp_path / "-".join(("recorded", *drops, str(seed)))
        folder.mkdir()
        return Recorded(folder, frozenset(drops), seed, ensemble=ensemble)

    return begin


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Path]:
    """Where the folder of a cut comes: in memory where the system has a place for that, since thousands are made."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path / "cut"
        return
    with tempfile.TemporaryDirectory(prefix="embedfleet-cut-", dir=memory) as made:
        yield Path(made) / "cut"


def test_nothing_acknowledged_is_lost(record: Any, cut: Path, request: pytest.FixtureRequest) -> None:
    thorough = request.config.getoption("--thorough")
    cuts = request.config.getoption("--power-cuts") or (THOROUGH_CUTS if thorough else CUTS)
    base = request.config.getoption("--seed") or 0
    for number, seed in enumerate(range(base, base + cuts)):
        if number % AN_ORDER == 0:
            recorded = record(seed=seed)
            assert len(recorded.moments) > 100
        assert recorded.cut(seed, cut) == ""


def test_an_ensemble_is_of_the_members_that_stand(record: Any, cut: Path) -> None:
    """A run is resumed of which a member's segment is gone: the ensemble that was made of it has to go first, for certain."""
    recorded = record(ensemble=True)
    for seed in range(150):
        assert recorded.cut(seed, cut) == ""


@pytest.mark.parametrize("drops", ["file", "folder"])
def test_without_a_sync_something_would_be_lost(record: Any, cut: Path, drops: str) -> None:
    recorded = record(drops)
    found = [wrong for seed in range(1, 300) if (wrong := recorded.cut(seed, cut))]
    assert len(found) > 10
