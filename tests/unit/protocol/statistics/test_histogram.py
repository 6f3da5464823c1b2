from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from embedfleet.protocol.statistics.histogram import PER_DOUBLING, LogHistogram


def filled(values):
    histogram = LogHistogram()
    for value in values:
        histogram.add(value)
    return histogram


def test_nothing_counted():
    assert LogHistogram().summary(3) == {}
    assert LogHistogram().percentile(0.5) == 0.0


def test_one_value_is_every_figure():
    assert set(filled([0.37]).summary(6).values()) == {0.37}


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_percentiles_are_those_of_the_sorted_values(share):
    values = np.random.default_rng(3).lognormal(-2, 1.5, 10_000)
    nearest_rank = np.sort(values)[math.ceil(share * len(values)) - 1]
    assert filled(values).percentile(share) == pytest.approx(nearest_rank, rel=2 ** (0.51 / PER_DOUBLING) - 1)


def test_the_ends_are_exact_and_memory_is_bounded():
    histogram = filled([0.0, 1e-30, 1e30, 5.0])
    assert histogram.summary(6)["min"] == 0.0
    assert histogram.summary(6)["max"] == 1e30
    assert histogram.percentile(1.0) <= 1e30
    many = filled(np.geomspace(1e-20, 1e20, 100_000))
    assert len(many.buckets) <= 64 * PER_DOUBLING + 1


def test_two_that_are_joined_are_one_over_all_values():
    values = np.random.default_rng(5).lognormal(-2, 1.5, 1_000).tolist()
    written = msgspec.json.decode(msgspec.json.encode(filled(values[:300])), type=LogHistogram)
    joined = written + filled(values[300:])
    assert list(joined.buckets) == sorted(joined.buckets)
    assert joined.summary(9) == pytest.approx(filled(values).summary(9))
    assert (LogHistogram() + filled([0.37])).summary(6) == filled([0.37]).summary(6)


def test_whole_numbers_stay_whole_in_json():
    found = msgspec.json.decode(msgspec.json.encode(filled([40, 41])), type=LogHistogram)
    assert msgspec.to_builtins(found, str_keys=True) == {
        "count": 2,
        "sum": 81.0,
        "least": 40,
        "most": 41,
        "buckets": {"85": 1, "86": 1},
    }
    assert [type(one) for one in (found.least, found.most, found.sum)] == [int, int, float]
