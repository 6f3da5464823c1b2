"""An even sample of a stream: its size, its evenness, and what it does with pairs and periods."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from embedfleet.coordinator.planning.even_sample import EvenSample, spread


def sampled(count: int, least: int, block: int = 777, most_bytes: int = 1 << 40, size: int = 1) -> EvenSample[int]:
    sample = EvenSample[int](least, most_bytes)
    for start in range(0, count, block):
        items = range(start, min(start + block, count))
        sample.take(items, lambda one: (one, size))
    return sample


@pytest.mark.parametrize("count", [0, 1, 100, 199])
def test_a_short_stream_is_kept_whole(count: int) -> None:
    sample = sampled(count, 100)
    assert sample.whole
    assert sample.items == list(range(count))


@pytest.mark.parametrize("count", [200, 5_000, 300_000])
def test_a_long_one_has_least_to_twice_as_many(count: int) -> None:
    sample = sampled(count, 100)
    assert not sample.whole
    assert sample.seen == count
    assert 70 <= len(sample.items) < 200, "half of 200 is about 100"
    assert sample.items == sorted(set(sample.items))


def test_the_sample_does_not_depend_on_the_blocks() -> None:
    assert sampled(50_000, 1_000, block=13).items == sampled(50_000, 1_000, block=9_999).items


def test_it_is_even_over_the_stream_and_over_any_period() -> None:
    items = np.array(sampled(400_000, 10_000).items)
    share = len(items) / 400_000
    for part in np.array_split(np.arange(400_000), 10):
        mine = np.count_nonzero((items >= part[0]) & (items <= part[-1]))
        assert mine == pytest.approx(share * len(part), rel=0.12)
    for period in (2, 8, 10):
        counts = np.bincount(items % period, minlength=period)
        assert counts / len(items) == pytest.approx(np.full(period, 1 / period), rel=0.12)


def test_pairs_are_kept_by_the_square_of_the_share() -> None:
    items, offset = set(sampled(400_000, 20_000).items), 200_000
    share = len(items) / 400_000
    pairs = sum(one + offset in items for one in items if one < offset)
    assert pairs == pytest.approx(share**2 * offset, rel=0.15)


def test_large_items_are_fewer() -> None:
    sample = sampled(10_000, 1_000, most_bytes=1 << 20, size=10_000)
    assert 20 <= len(sample.items) <= 105


def test_hashes_differ() -> None:
    hashes = spread(np.arange(100_000, dtype=np.uint64))
    assert len(set(hashes.tolist())) == 100_000
    bits = [int(one).bit_count() for one in itertools.islice(hashes, 1_000)]
    assert np.mean(bits) == pytest.approx(32, abs=1)
