"""A power cut at any moment of a merge: the folder is a whole run or none, and the same merge ends well."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from embedfleet.client.run_directory.reader import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.exporter.merging.merge import merge_shards
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.records.intake import SegmentLimits
from embedfleet.protocol.spec.run_spec import RunSpec

from ....power.disk import Disk, Moment, after_cut
from ....shard_runs import DENSE, SPARSE, embed, make_shards, put

CUTS = 300
COMPLETED = 10
"""One in so many cuts is followed by the same merge."""
FILES, ROWS = 3, 6


class Recorded:
    """The moments of a merge. With `again`, of the second one, after the middle shard was computed from other texts."""

    def __init__(self, folder: Path, *, again: bool) -> None:
        self._disk = Disk(folder / "disk")
        self._root = self._disk.root / "run"
        self._disk.root.mkdir()
        self.states: list[tuple[list[str], np.ndarray]] = []
        """Texts and vectors of the runs that may stand: the last one is that of the shards."""
        self._divide(folder, "text")
        if again:
            self._merge(self._root)
            shutil.rmtree(self._root / "shards")
            self._divide(folder, "other")
        for part in self._disk.root.glob("run-parts"):
            shutil.rmtree(part)  # a merge reads no source
        self._disk.settle()
        with pytest.MonkeyPatch.context() as patch:
            self._disk.record(lambda module, name, value: patch.setattr(module, name, value))
            self._merge(self._root)
            self._disk.mark("done")
        self.moments: list[Moment] = self._disk.moments

    def _divide(self, folder: Path, word: str) -> None:
        source = folder / f"source-{word}"
        source.mkdir()
        for file in range(FILES):
            first = "text" if file != 1 else word
            put(
                source / f"{file}.jsonl",
                [{"id": f"f{file}c{row}", "text": f"{first} {row} of {file}"} for row in range(ROWS)],
            )
        spec = RunSpec(source=str(source), passes=(DENSE, SPARSE), index="none")
        make_shards(spec, self._root, FILES, SegmentLimits(rows=4))
        whole = open_run(embed(spec, folder / f"whole-{word}"))
        self.states.append((whole.chunks.column("text").to_pylist(), np.asarray(whole.vectors(DENSE.vector))))

    def _merge(self, root: Path) -> None:
        merge_shards(RunLayout(root), "fail", lambda _step, _done, _of: None)

    def cut(self, seed: int, into: Path) -> str:
        """What is wrong after one cut; empty where nothing is."""
        rng = random.Random(seed)
        moment = rng.choice(self.moments)
        shutil.rmtree(into, ignore_errors=True)
        after_cut(moment, rng, into)
        root = into / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _fd: None)  # there is no second cut
            done = RunLayout(root).manifest.exists() and RunLayout(root).spec.exists()
            if moment.marks and not done:
                return f"cut {seed}: the merge was done and its manifest is gone"
            if wrong := self._wrong(root, done=done, states=self.states):
                return f"cut {seed}: {wrong}"
            if seed % COMPLETED == 0:
                self._merge(root)
                if wrong := self._wrong(root, done=True, states=self.states[-1:]):
                    return f"cut {seed}, merged again: {wrong}"
        return ""

    def _wrong(self, root: Path, *, done: bool, states: list[tuple[list[str], np.ndarray]]) -> str:
        if not done:
            try:
                open_run(root)
            except RunDirectoryError as error:
                return "" if "embedfleet merge" in str(error) else f"the refusal is {error}"
            report = verify_run(root)
            return "" if "embedfleet merge" in report.interrupted else "a half merge opens as a run"
        report = verify_run(root)
        if not report.ok:
            return f"{report.problems}"
        run = open_run(root)
        found = run.chunks.column("text").to_pylist(), np.asarray(run.vectors(DENSE.vector))
        same = any(found[0] == texts and np.array_equal(found[1], vectors) for texts, vectors in states)
        return "" if same else "it holds neither the earlier shards nor those of now"


@pytest.fixture
def cut(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path / "cut"
        return
    with tempfile.TemporaryDirectory(prefix="embedfleet-cut-", dir=memory) as made:
        yield Path(made) / "cut"


@pytest.mark.parametrize("again", [False, True])
def test_what_a_cut_leaves_is_a_whole_run_or_none(
    tmp_path: Path, cut: Path, request: pytest.FixtureRequest, again: bool
) -> None:
    recorded = Recorded(tmp_path, again=again)
    assert len(recorded.moments) > 60
    cuts = request.config.getoption("--power-cuts") or CUTS
    base = request.config.getoption("--seed") or 0
    for seed in range(base, base + cuts):
        assert recorded.cut(seed, cut) == ""
