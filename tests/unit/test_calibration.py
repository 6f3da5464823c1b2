"""Segments wait for the sample that fixes the ranges of int8, and no longer."""

from __future__ import annotations

import numpy as np
from embedfleet.exporter.calibration import FEWEST_ROWS, SAMPLE_ROWS, Calibration
from embedfleet.exporter.segment_builder import SegmentBuilder
from embedfleet.protocol.spec import Output
from embedfleet.protocol.storage import Ranges
from embedfleet.protocol.work_messages import RowError


def builder(rows: int, seed: int = 0, bad: int = 0) -> SegmentBuilder:
    """A segment whose first `bad` rows are in quarantine."""
    found = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    made = SegmentBuilder(rows, [Output("v", "dense", "dense", "int8")], [8])
    arrays = {"positions": np.arange(rows), "vector": found, "n_tokens": np.ones(rows), "truncated": np.zeros(rows)}
    made.add(arrays, [RowError(row, "no luck") for row in range(bad)])
    return made


def released(calibration: Calibration, segments: int | None = None) -> list[int]:
    return [segment for segment, _ in calibration.release(segments)]


def test_a_large_segment_waits_for_nobody() -> None:
    calibration = Calibration(None)
    first = builder(SAMPLE_ROWS)
    calibration.hold(0, first)
    assert released(calibration) == [0]
    assert calibration.ranges is not None
    assert all(low < one < high for low, one, high in
               zip(calibration.ranges.low, first.dense_vectors()[0], calibration.ranges.high, strict=True))  # fmt: skip
    before = calibration.ranges
    calibration.hold(4, builder(3, 1))
    assert released(calibration) == [4]
    assert calibration.ranges is before


def test_the_ranges_do_not_depend_on_which_segment_is_whole_first() -> None:
    """Which one that is depends on what else fails, and the vectors must not."""
    found: list[Ranges | None] = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        calibration, out = Calibration(None), set[int]()
        for segment in order:
            calibration.hold(segment, builder(SAMPLE_ROWS, segment))
            out.update(released(calibration))
            assert (0 in out) == (calibration.ranges is not None)
        assert out == {0, 1, 2}
        found.append(calibration.ranges)
    assert found[0] is not None
    assert found == [found[0]] * 3


def test_two_segments_are_never_held_for_a_third() -> None:
    """The coordinator may keep no more than two open: a third would never come."""
    calibration = Calibration(None)
    calibration.hold(0, builder(SAMPLE_ROWS - 1))
    assert released(calibration) == []
    assert released(calibration, segments=3) == []
    calibration.hold(1, builder(10, bad=10))
    assert released(calibration) == [0, 1]


def test_a_sample_of_too_few_rows_takes_the_widest_ranges() -> None:
    calibration = Calibration(None)
    calibration.hold(0, builder(40, bad=39))
    calibration.hold(1, builder(FEWEST_ROWS - 2, 1))
    assert released(calibration) == [0, 1]
    assert calibration.ranges == Ranges((-1.0,) * 8, (1.0,) * 8)


def test_a_small_run_is_calibrated_on_all_of_it() -> None:
    calibration = Calibration(None)
    assert released(calibration, segments=0) == []
    calibration.hold(1, builder(5))
    calibration.hold(0, builder(5, 1))
    assert released(calibration, segments=2) == [1, 0]


def test_known_ranges_are_used_again() -> None:
    known = Ranges((-1.0,) * 8, (1.0,) * 8)
    calibration = Calibration(known)
    calibration.hold(0, builder(2))
    assert released(calibration) == [0]
    assert calibration.ranges is known
