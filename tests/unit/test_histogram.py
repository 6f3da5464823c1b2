from __future__ import annotations

import math

import numpy as np
import pytest
from embedfleet.coordinator.histogram import PER_DOUBLING, LogHistogram


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
    assert len(many._buckets) <= 64 * PER_DOUBLING + 1
