from __future__ import annotations

import numpy as np
from embedfleet.protocol.index.queries import SparseQuery, drop_empty, with_terms
from embedfleet.protocol.vectors.metadata_terms import term_index

DENSE = np.array([1.0, 0.0], np.float32)


def test_a_query_without_a_term_a_token_or_anything_but_zeros_asks_nothing():
    vectors = {"a": SparseQuery([], []), "b": SparseQuery([1], [1.0]), "c": np.empty((0, 4), np.float32), "d": DENSE}
    vectors |= {"e": np.zeros(2, np.float32), "f": np.zeros((3, 2), np.float32), "g": SparseQuery([1, 2], [0.0, 0.0])}
    assert list(drop_empty(vectors)) == ["b", "d"]


def test_the_words_of_a_query_come_after_the_models_indices():
    found = with_terms(SparseQuery([3, 9], [0.5, 0.25]), "Zebra")
    assert found.indices == [3, 9, term_index("zebra")]
    assert found.values == [0.5, 0.25, 1.0]
