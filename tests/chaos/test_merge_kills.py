"""The process that merges, killed at its system calls: what is left is a whole run or none, and the same command ends well."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from embedfleet.client.run_directory.reader import open_run
from embedfleet.client.verify.recount import verify_run
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import RunSpec
from embedfleet.tests.forked_commands import ForkedCommands
from embedfleet.tests.run_copies import copied
from embedfleet.tests.shard_runs import DENSE, SPARSE, embed, make_shards, write_files

from .test_disk import traced
from .tracing import run_traced

MODULE = "embedfleet.exporter.commands.merge"
CALLS = "rename,fsync,unlink,rmdir,mkdir"
KILLS = 3
"""Of each kind of call, spread over all of them."""


@pytest.fixture
def merge(forked: ForkedCommands) -> Callable[..., int]:
    """Merges in a process of its own, under `strace OPTIONS`: its exit code."""
    return lambda root, *options: run_traced(forked, MODULE, [str(root)], "-e", f"trace={CALLS}", *options)[0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    spec = RunSpec(source=str(write_files(folder / "files", 4, 6)), passes=(DENSE, SPARSE), index="edge")
    make_shards(spec, folder / "run", 4)
    embed(spec, folder / "whole")
    return folder / "run"


@traced
@pytest.mark.timeout(900)
def test_killed_at_any_call_it_ends_well_the_next_time(shards: Path, merge: Any, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    assert merge(copied(shards, tmp_path / "counted"), "-o", str(log)) == 0
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))
    assert calls["rename"] > 10
    expected = open_run(shards.parent / "whole")
    standing: Counter[bool] = Counter()
    for call, times in calls.items():
        for when in sorted({1 + times * part // KILLS for part in range(KILLS)}):
            root = copied(shards, tmp_path / f"{call}-{when}")
            killed = f"-einject={call}:signal=KILL:when={when}"
            code = merge(root, "-o", os.devnull, killed)
            assert code != 0 or RunLayout(root).manifest.exists(), f"killed at {call} {when}"
            if RunLayout(root).spec.exists() and RunLayout(root).manifest.exists():
                assert verify_run(root).problems == [], f"killed at {call} {when}"
            standing[RunLayout(root).manifest.exists()] += 1
            assert merge(root, "-o", os.devnull) == 0, f"killed at {call} {when}"
            assert verify_run(root).problems == [], f"killed at {call} {when}"
            assert open_run(root).vectors().tobytes() == expected.vectors().tobytes()
    assert standing[False] > 5
