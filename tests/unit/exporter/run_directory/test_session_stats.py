from __future__ import annotations

import tempfile
import time
from pathlib import Path

import msgspec
import orjson
import pytest
from embedfleet.coordinator.telemetry.tracker import TelemetryTracker
from embedfleet.exporter.run_directory import stats
from embedfleet.exporter.run_directory.stats import earlier_stats
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.spec.run_spec import PassSpec
from embedfleet.protocol.statistics.run_stats import RunStats, as_values, session_of
from embedfleet.protocol.wire.work import Result, Timings

VECTOR = "dense-a"


def merge_stats(before: dict, now: dict, rows: dict[str, int]) -> dict:
    """As JSON values, through the file and through the message."""
    with tempfile.TemporaryDirectory() as folder:
        layout = RunLayout(Path(folder))
        layout.stats.write_bytes(orjson.dumps(before))
        return as_values(stats.merge_stats(earlier_stats(layout), session_of(now), rows))


def session(run: str, *batches: float, device: str = "cpu:0", vector: str = VECTOR) -> dict:
    """What a coordinator says of a session whose batches of 10 rows and 40 tokens took so many seconds each."""
    tracker = TelemetryTracker((PassSpec(vector=vector, kind="dense", model="fake:4"),), lambda *_event: None)
    tracker.passes[0].first = start = time.monotonic()
    found = tracker.passes[0].statistics
    found.dtype, found.placement = "float32", f"{device} float32"
    for number, seconds in enumerate(batches, 1):
        timings = Timings(tokenize=0.0, forward=seconds, wait=0.0)
        result = Result(number, 1, tokens=40, padded=50, timings=timings, arrays=())
        tracker.result(0, device, 10, 40, result, start + 2.0 * number)
    samples = {"host": {"samples": 1}, "passes": {vector: {device: {"samples": 1}}} if batches else {}}
    return {"run": run, "seconds": 1.0, "passes": [as_values(tracker.passes[0].record())], "processing_stats": samples}


def test_a_session_that_computed_nothing_leaves_the_earlier_figures():
    first = merge_stats({}, session("r1", 0.5, 1.5), {VECTOR: 20})
    second = merge_stats(first, session("r2", device="cpu:1"), {VECTOR: 20})
    assert second["passes"] == first["passes"]
    assert (second["run"], second["seconds"]) == ("r2", 1.0), "the rest is of the last session"
    (one,) = second["passes"]
    assert (one["device"], one["sessions"], one["session"], one["chunks"]) == ("cpu:0", 1, "r1", 20)
    assert second["processing_stats"]["passes"] == first["processing_stats"]["passes"]


def test_sums_are_added_and_histograms_are_joined():
    first = merge_stats({}, session("r1", *[1.0] * 90), {VECTOR: 900})
    (one,) = merge_stats(first, session("r2", *[4.0] * 10, device="cpu:1"), {VECTOR: 1_000})["passes"]
    (alone,) = session("r", *[1.0] * 90, *[4.0] * 10)["passes"]
    assert one["batch_seconds"] == alone["batch_seconds"]
    assert (one["batch_seconds"]["p50"], one["batch_seconds"]["p95"]) == pytest.approx((1.0, 4.0))
    for name in ("computed", "batches", "tokens", "padded", "padding", "split"):
        assert one[name] == alone[name], name
    assert one["seconds"] == pytest.approx(200.0)
    assert one["chunks_per_second"] == pytest.approx(5.0)
    assert one["device"] == "cpu:0, cpu:1"
    assert one["rows_by_device"] == {"cpu:0": 900, "cpu:1": 100}
    assert (one["sessions"], one["session"], one["chunks"]) == (2, "r2", 1_000)
    assert one["placement"] == "cpu:1 float32"


def test_sessions_below_a_millisecond_have_a_rate_that_was_measured():
    first, now = session("r1", 0.5), session("r2", 0.5)
    for one in (first["passes"][0], now["passes"][0]):
        one.update(seconds=0.0, chunks_per_second=25_000.0, tokens_per_second=100_000.0)
    (one,) = merge_stats(merge_stats({}, first, {VECTOR: 10}), now, {VECTOR: 20})["passes"]
    assert (one["chunks_per_second"], one["tokens_per_second"]) == (25_000.0, 100_000.0)


def test_what_is_committed_while_the_exporter_closes_is_not_called_uncommitted():
    (one,) = session("r1", 0.5)["passes"]
    assert "uncommitted" not in one, "`computed` and `chunks` of all sessions say it"


def resumed(run: str, earlier: int, *batches: float) -> dict:
    """A session over a run of which so many rows were committed before."""
    now = session(run, *batches)
    now["passes"][0]["earlier"] = earlier
    return now


def test_rows_of_a_session_that_was_killed_are_counted_as_untimed():
    first = merge_stats({}, resumed("r1", 0, 0.5), {VECTOR: 10})
    assert "earlier" not in first["passes"][0]
    assert first["passes"][0]["untimed"] == 0
    second = merge_stats(first, resumed("r2", 40, 0.5), {VECTOR: 50})  # one between them committed 30 rows
    third = merge_stats(second, resumed("r3", 50, 0.5), {VECTOR: 60})
    assert merge_stats(third, resumed("r3", 50, 0.5), {VECTOR: 60}) == third
    assert [one["passes"][0]["untimed"] for one in (second, third)] == [30, 30]
    assert (third["passes"][0]["computed"], third["passes"][0]["chunks"]) == (30, 60)
    damaged = merge_stats(third, resumed("r4", 20, 0.5), {VECTOR: 30})  # segments that were damaged are gone
    assert damaged["passes"][0]["untimed"] == 30


def test_rows_of_the_first_sessions_are_untimed_where_they_were_killed():
    alone = merge_stats({}, resumed("r2", 20), {VECTOR: 20})
    assert (alone["passes"][0]["untimed"], alone["passes"][0]["sessions"]) == (20, 0)
    after = merge_stats(alone, resumed("r3", 20, 0.5), {VECTOR: 30})
    assert (after["passes"][0]["untimed"], after["passes"][0]["sessions"]) == (20, 1)


def test_rows_whose_figures_cannot_be_joined_are_untimed():
    first = merge_stats({}, resumed("r1", 0, 0.5), {VECTOR: 10})
    del first["passes"][0]["histograms"]
    assert merge_stats(first, resumed("r2", 10, 0.5), {VECTOR: 20})["passes"][0]["untimed"] == 10
    assert merge_stats(first, resumed("r2", 10), {VECTOR: 10})["passes"][0]["untimed"] == 0


def test_a_session_is_not_added_to_itself():
    first = merge_stats({}, session("r1", 0.5), {VECTOR: 10})
    assert merge_stats(first, session("r1", 0.5), {VECTOR: 10})["passes"] == first["passes"]


def test_figures_that_cannot_be_joined_give_way_to_those_of_a_session_that_computed():
    first = merge_stats({}, session("r1", 0.5), {VECTOR: 10})
    del first["passes"][0]["histograms"]
    assert merge_stats(first, session("r2"), {VECTOR: 10})["passes"][0]["session"] == "r1"
    assert merge_stats(first, session("r2", 2.0), {VECTOR: 10})["passes"][0]["sessions"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"passes": [{}]},
        {"passes": [{"vector": VECTOR, "batches": 1, "histograms": {}}]},
        {"passes": 3},
        {"passes": [7]},
        {"passes": {"vector": VECTOR}},
        {"passes": [{"vector": [VECTOR]}]},
        {"processing_stats": []},
        {"processing_stats": {"passes": [1]}},
    ],
)
def test_damaged_figures_give_way_to_those_of_this_session(damage):
    now = session("r2", 2.0)
    assert merge_stats(damage, now, {VECTOR: 10}) == merge_stats({}, now, {VECTOR: 10})


@pytest.mark.parametrize("name", ["seconds", "sessions", "rows_by_device", "peak_bytes", "histograms"])
@pytest.mark.parametrize("value", [None, "x", {"a": "b"}])
def test_a_damaged_figure_is_not_added(name, value):
    first, now = merge_stats({}, session("r1", 0.5), {VECTOR: 10}), session("r2", 2.0)
    first["passes"][0][name] = value
    assert merge_stats(first, now, {VECTOR: 20})["run"] == "r2"
    del first["passes"][0][name]
    assert merge_stats(first, now, {VECTOR: 20}) == merge_stats({}, now, {VECTOR: 20})


def test_a_file_that_cannot_be_read_is_none(tmp_path):
    layout = RunLayout(tmp_path)
    assert earlier_stats(layout) == RunStats()
    for content in ("{", "[]", '{"a":' * 100_000):
        layout.stats.write_text(content)
        assert earlier_stats(layout) == RunStats()


def test_of_damaged_figures_the_status_is_taken(tmp_path):
    layout = RunLayout(tmp_path)
    layout.stats.write_text('{"status": "done", "passes": 3}')
    assert earlier_stats(layout) == RunStats(status="done")


def test_the_figures_of_shards_are_added_as_those_of_sessions():
    parts = [merge_stats({}, session(run, *seconds, device=device), {VECTOR: 10 * len(seconds)}) for run, device, seconds in
             (("r1", "cpu:0", [1.0] * 90), ("r2", "cpu:1", [4.0] * 10), ("r3", "cpu:1", []))]  # fmt: skip
    shards = [msgspec.convert(one, RunStats, str_keys=True) for one in parts]
    found = as_values(stats.join_stats(shards, {VECTOR: 990}))
    (one,) = found["passes"]
    (alone,) = session("r", *[1.0] * 90, *[4.0] * 10)["passes"]
    assert one["batch_seconds"] == alone["batch_seconds"]
    for name in ("computed", "batches", "tokens", "padded", "padding", "split"):
        assert one[name] == alone[name], name
    assert (one["sessions"], one["session"], one["chunks"], one["seconds"]) == (2, "r2", 990, pytest.approx(200.0))
    assert set(found["processing_stats"]["passes"][VECTOR]) == {"cpu:0", "cpu:1"}
    assert found["seconds"] == 3.0
    assert stats.join_stats([], {}).passes == ()
