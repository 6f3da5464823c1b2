"""The statistics of two sessions are those of one that computed all their batches."""

from __future__ import annotations

import msgspec
import pytest
from embedfleet.protocol.statistics.pass_statistics import PassStatistics, Split
from embedfleet.protocol.statistics.pass_stats import PassStats, SessionPass, describe_pass
from embedfleet.protocol.statistics.run_stats import RunStats, as_values


def computed(*batches: int, device: str = "cpu:0", seconds: float = 2.0) -> PassStatistics:
    """A session whose batches have so many rows."""
    found = PassStatistics(seconds=seconds, dtype="float32", placement=f"{device} float32")
    for rows in batches:
        found.count_batch(device, rows, 4 * rows, 5 * rows, 1, Split(tokenize=0.25, forward=0.5, wait=0.125))
    return found


def test_sums_are_those_of_one_session() -> None:
    both, alone = computed(10, 20) + computed(30), computed(10, 20, 30, seconds=4.0)
    assert both == alone
    assert (both.chunks_per_second, both.tokens_per_second, both.padding) == pytest.approx((15.0, 60.0, 0.2))


def test_of_what_cannot_be_added_the_most_or_the_latest_counts() -> None:
    first, later = computed(10), computed(10, device="cuda:1")
    first.peak_bytes, later.gpu_peak_bytes, first.rotation_gap_seconds = 7, 9, 0.5
    both = first + later
    assert (both.peak_bytes, both.gpu_peak_bytes, both.rotation_gap_seconds) == (7, 9, 0.5)
    assert (both.placement, both.device) == ("cuda:1 float32", "cpu:0, cuda:1")
    assert (later + later).rotation_gap_seconds is None


def test_before_the_first_result_nothing_has_a_rate() -> None:
    nothing = PassStatistics()
    assert (nothing.chunks_per_second, nothing.tokens_per_second, nothing.padding, nothing.device) == (
        0.0,
        0.0,
        0.0,
        "",
    )


def test_a_record_is_rounded_and_has_the_statistics() -> None:
    found = computed(10, 20, seconds=3.00049)
    record = describe_pass("v", "m", 30, 0, found)
    assert (record.seconds, record.chunks_per_second, record.padding) == (3.0, 10.0, 0.2)
    again = msgspec.convert(as_values(record), SessionPass, str_keys=True)
    assert again == record
    found.seconds = 3.0
    assert again.statistics == found
    found.count_batch("cpu:0", 1, 1, 1, 0, Split())
    assert again == record, "the record is of that moment"


def test_a_pass_of_the_file_is_read_back_and_has_every_figure() -> None:
    found = PassStats.of_session(describe_pass("v", "m", 30, 20, computed(10)), "r")
    assert (found.sessions, found.session, found.untimed) == (1, "r", 20)
    values = as_values(found)
    assert not {"earlier", "truncated"} & values.keys()
    file = msgspec.convert({"passes": [values]}, RunStats, str_keys=True)
    assert file.by_vector() == {"v": found}
    del values["untimed"]  # as release 0.1.0 wrote it
    assert msgspec.convert(values, PassStats, str_keys=True).untimed == 0
    del values["tokens"]
    with pytest.raises(msgspec.ValidationError, match="tokens"):
        msgspec.convert(values, PassStats, str_keys=True)


def test_a_pass_without_a_session_has_no_figures() -> None:
    found = PassStats.none("v")
    assert (found.vector, found.sessions, found.session, found.seconds, found.batch_rows) == ("v", 0, "", 0.0, {})
