"""Rates of an earlier run: of the same pass, on devices of the same names, and long enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.planning.device_choice import PlannedDevices, devices_here
from embedfleet.client.planning.rates import earlier_run
from embedfleet.exporter.run_directory.stats import write_stats
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PREPROCESSING, PassSpec, RunSpec
from embedfleet.protocol.statistics.pass_statistics import PassStatistics
from embedfleet.protocol.statistics.pass_stats import PassStats, describe_pass
from embedfleet.protocol.statistics.run_stats import RunStats
from embedfleet.protocol.wire.devices import Device

DENSE = PassSpec(vector="dense-x", kind="dense", model="owner/x")
BM25 = PassSpec(vector="sparse-bm25", kind="bm25", model="bm25")
NAME = "cpu:0 (2 threads)"
HERE = devices_here([Device(uuid="c", kind="cpu", name=NAME, memory=1 << 33, threads=2)])


def timed(one: PassSpec, seconds: float = 20.0, device: str = NAME) -> PassStats:
    found = PassStatistics(
        computed=100, seconds=seconds, batches=3, tokens=8_000, padded=8_000, rows_by_device={device: 100}
    )
    return PassStats.of_session(describe_pass(one.vector, one.model, 100, 0, found), "r1")


def run(tmp_path: Path, passes: tuple[PassSpec, ...], stats: tuple[PassStats, ...]) -> Path:
    layout = RunLayout(tmp_path)
    spec = RunSpec(source="/c.jsonl", passes=passes, preprocessing=PREPROCESSING)
    layout.spec.write_bytes(msgspec.json.encode(spec))
    write_stats(layout.stats, RunStats(run="r1", seconds=33.0, passes=stats, status="done"))
    return tmp_path


def test_rates_and_the_rest_of_the_time(tmp_path: Path) -> None:
    out = run(tmp_path, (DENSE, BM25), (timed(DENSE), timed(BM25, 4.0, "cpu helper 1 (1 thread)")))
    found = earlier_run(out, (DENSE, BM25), HERE)
    assert found is not None
    assert found.passes["dense-x"].tokens_per_second == 400
    assert found.passes["sparse-bm25"].seconds == 4
    assert found.other_seconds == 13, "BM25 ran beside the model"


@pytest.mark.parametrize(
    ("passes", "stats", "devices"),
    [
        ((msgspec.structs.replace(DENSE, dtype="bfloat16"),), (timed(DENSE),), HERE),
        ((DENSE,), (timed(DENSE, device="cpu:0 (8 threads)"),), HERE),
        ((DENSE,), (timed(DENSE, seconds=0.3),), HERE),
        ((), (), HERE),
    ],
)
def test_others_do_not_count(passes: Any, stats: Any, devices: PlannedDevices, tmp_path: Path) -> None:
    assert earlier_run(run(tmp_path, passes, stats), (DENSE,), devices) is None


def test_a_new_pass_leaves_the_start_unknown(tmp_path: Path) -> None:
    other = msgspec.structs.replace(DENSE, vector="dense-y")
    found = earlier_run(run(tmp_path, (DENSE, other), (timed(DENSE), timed(other, 0.5))), (DENSE, other), HERE)
    assert found is not None
    assert list(found.passes) == ["dense-x"]
    assert found.other_seconds is None


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    assert earlier_run(tmp_path / "none", (DENSE,), HERE) is None
