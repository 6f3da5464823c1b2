"""Paired differences: their means by hand, and intervals that hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from embedfleet.client.evaluation.paired import LEAST_QUERIES, Difference, compare, t_quantile


def drawn(mean: float, count: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.3, (count, columns))


def test_the_mean_and_the_queries_are_counted_by_hand() -> None:
    (found,) = compare(np.array([[0.5], [-0.25], [0.0], [0.0], [0.25], [0.0]]))
    assert (found.mean, found.better, found.worse) == (0.08333333, 2, 1)
    assert found.low is not None
    assert found.low < 0 < found.mean
    assert not found.sure


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(5, 2.5706), (9, 2.2622), (19, 2.0930), (39, 2.0227), (99, 1.9842), (10**6, 1.9600)]
)
def test_the_quantile_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, rel=0.002 if freedom < 9 else 0.0003)


def test_the_interval_is_that_of_a_paired_t() -> None:
    for seed in range(5):
        sample = drawn(0.1, 40, 1, seed)
        (found,) = compare(sample)
        half = 2.0227 * sample.std(ddof=1) / 40**0.5
        assert found.low == pytest.approx(sample.mean() - half, abs=1e-4)
        assert found.high == pytest.approx(sample.mean() + half, abs=1e-4)
    (sparse,) = compare(np.array([[-0.5]] + [[0.0]] * 29))
    assert (sparse.low, sparse.high) == (pytest.approx(-0.0508, abs=1e-3), pytest.approx(0.0174, abs=1e-3))


def test_the_interval_holds_the_truth_in_nineteen_of_twenty_cases() -> None:
    ends = [compare(drawn(0.1, 25, 1, seed))[0] for seed in range(300)]
    held = sum(one.low is not None and one.high is not None and one.low < 0.1 < one.high for one in ends)
    assert 0.92 <= held / 300 <= 0.98


def test_the_best_of_many_by_chance_is_not_sure() -> None:
    """Twenty comparisons without a difference: in most cases an interval of its own leaves 0 out, and is not to be trusted."""
    found = [compare(drawn(0.0, 30, 20, seed)) for seed in range(60)]
    assert sum(any(one.low is not None and one.low > 0 for one in some) for some in found) > 12
    assert sum(any(one.sure for one in some) for some in found) <= 6
    assert compare(drawn(0.2, 30, 20, 1))[0].sure, "what is there is found all the same"


@pytest.mark.parametrize("count", range(1, LEAST_QUERIES))
def test_few_queries_have_no_interval_however_even_they_are(count: int) -> None:
    (found,) = compare(np.full((count, 1), 0.5))
    assert found == Difference(mean=0.5, low=None, high=None, better=count, worse=0, sure=False)


def test_differences_that_are_all_the_same() -> None:
    (found,) = compare(np.full((LEAST_QUERIES, 1), 0.5))
    assert (found.low, found.high, found.sure) == (0.5, 0.5, True)
    (found,) = compare(np.zeros((9, 1)))
    assert (found.mean, found.low, found.high, found.better, found.sure) == (0.0, 0.0, 0.0, 0, False)


def test_the_same_figures_give_the_same_interval() -> None:
    sample = drawn(0.1, 30, 3, 7)
    assert compare(sample) == compare(sample.copy())


def test_the_other_way_round() -> None:
    (found,) = compare(drawn(0.1, 30, 1, 2))
    assert found.low is not None
    assert found.high is not None
    back = found.reversed()
    assert (back.mean, back.low, back.high) == (-found.mean, -found.high, -found.low)
    assert (back.better, back.worse) == (found.worse, found.better)
    assert str(compare(np.zeros((9, 1)))[0].reversed().mean) == "0.0", "no negative zero"
