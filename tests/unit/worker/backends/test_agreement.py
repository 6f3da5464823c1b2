"""How far two results agree, of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from embedfleet.worker.backends.agreement import agree, agreement
from embedfleet.worker.encoders.heads import M3Row

ONE = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
OTHER = np.array([[1.0, 0.0], [0.8, 0.6]], np.float32)
SPARSE = (np.array([3, 9], np.uint32), np.array([0.6, 0.8], np.float32))
WITHOUT = (np.array([9], np.uint32), np.array([0.8], np.float32))
EMPTY = (np.empty(0, np.uint32), np.empty(0, np.float32))


def test_of_dense_vectors_it_is_the_least_cosine() -> None:
    assert agreement(ONE, ONE) == pytest.approx(1)
    assert agreement(ONE, OTHER) == pytest.approx(0.96)
    assert np.isnan(agreement(ONE, np.full_like(ONE, np.nan)))


def test_of_scores_it_is_the_largest_difference() -> None:
    scores = np.array([0.5, 0.25], np.float32)
    assert agreement(scores, scores + np.array([0, 0.125], np.float32)) == 0.875
    assert agreement(scores[:0], scores[:0]) == 1


def test_of_sparse_weights_it_counts_the_terms_of_both() -> None:
    assert agreement([SPARSE, EMPTY], [SPARSE, EMPTY]) == pytest.approx(1)
    assert agreement([SPARSE], [WITHOUT]) == pytest.approx(0.8)
    assert agreement([SPARSE], [EMPTY]) == 0


def test_of_token_vectors_it_needs_as_many_tokens() -> None:
    assert agreement([ONE], [OTHER]) == pytest.approx(0.96)
    assert agreement([ONE], [ONE[:1]]) == -1
    assert agreement([ONE[:0]], [ONE[:0]]) == 1


def test_of_three_heads_it_is_the_least() -> None:
    assert agreement([M3Row(ONE[0], SPARSE, ONE)], [M3Row(ONE[0], WITHOUT, OTHER)]) == pytest.approx(0.8)


def test_float32_has_to_agree_better_and_cosines_better_than_scores() -> None:
    scores = np.zeros(3, np.float32)
    assert agree(0.9995, ONE, "bfloat16")
    assert not agree(0.9995, ONE, "float32")
    assert not agree(0.99, ONE, "float16")
    assert agree(0.99, scores, "float16")
    assert not agree(0.999, scores, "float32")
    assert not agree(float("nan"), ONE, "float16")
