"""Metadata terms as sparse weights, and queries in the same range of indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from embedfleet.protocol.text.preprocessing import preprocess
from embedfleet.protocol.vectors.metadata_terms import metadata_weights, query_weights, read_weights, term_index
from hypothesis import given
from hypothesis import strategies as st


def weighted(*terms: Any) -> dict[str, Any]:
    return {"sparse_features": {"term_weights": list(terms)}}


@given(st.text())
def test_a_terms_index_lies_above_every_vocabulary(term: str) -> None:
    assert 1 << 31 <= term_index(term) < 1 << 32
    assert term_index(term) == term_index(term.casefold())


def test_weights_are_sorted_by_index() -> None:
    terms = [{"term": word, "tf": 2, "weight": 0.25 * n} for n, word in enumerate(["fox", "dog", "lease", "batch"], 1)]
    found = metadata_weights(weighted(*terms))
    assert found is not None
    indices, values = found
    assert (indices.dtype, values.dtype) == (np.uint32, np.float32)
    assert (np.diff(indices.astype(np.int64)) > 0).all()
    assert dict(zip(indices.tolist(), values.tolist(), strict=True)) == {
        term_index(one["term"]): one["weight"] for one in terms
    }


def test_the_larger_of_two_weights_counts() -> None:
    found = metadata_weights(
        weighted({"term": "Fox", "weight": 1}, {"term": "fox", "weight": 3}, {"term": "FOX", "weight": 2})
    )
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([term_index("fox")], [3.0])


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"sparse_features": None},
        {"sparse_features": []},
        {"sparse_features": {"term_weights": {"fox": 1}}},
        weighted(),
        weighted("fox", None, 3, ["fox", 1]),
        weighted({"term": "fox"}, {"weight": 1}, {"term": 3, "weight": 1}, {"term": "fox", "weight": "1"}),
        weighted({"term": "a", "weight": 0}, {"term": "b", "weight": -1}, {"term": "c", "weight": float("nan")}),
        weighted({"term": "a", "weight": float("inf")}),
        weighted({"term": "a", "weight": 1e300}, {"term": "b", "weight": 1e-60}, {"term": "c", "weight": 10**400}),
        weighted({"term": "a", "weight": True}),
    ],
)
def test_what_is_no_weight_is_left_out(metadata: dict[str, Any]) -> None:
    assert metadata_weights(metadata) is None
    whole = metadata.get("sparse_features")
    if isinstance(whole, dict) and isinstance(whole.get("term_weights"), list):
        good = weighted(*whole["term_weights"], {"term": "good", "weight": 2})
        found = metadata_weights(good)
        assert found is not None
        assert found[0].tolist() == [term_index("good")]


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({}, ""),
        ({"sparse_features": None}, ""),
        ({"sparse_features": {"version": 1}}, ""),
        (weighted(), ""),
        (weighted({"term": "a", "weight": 0}, {"term": "b", "weight": 0.5}), ""),
        ({"sparse_features": "fox"}, " is no list"),
        ({"sparse_features": {"term_weights": "fox"}}, " is no list"),
        ({"sparse_features": {"term_weights": {"fox": 1}}}, " is no list"),
        (weighted({"term": "a", "weight": 1}, {"token": "b", "weight": 1}), "[1] has no term"),
        (weighted({"term": "a", "weight": "1"}), "[0] has no weight that is a number"),
        (weighted({"term": "a", "weight": -1}), "[0] has the weight -1, which float32 does not keep as positive"),
        (weighted({"term": "a", "weight": 1e300}), "[0] has the weight 1e+300, which float32 does not keep"),
        (weighted({"term": "a", "weight": 1e-60}), "[0] has the weight 1e-60, which float32 does not keep"),
    ],
)
def test_what_cannot_be_used_is_named(metadata: dict[str, Any], fault: str) -> None:
    found = read_weights(metadata)[1]
    assert found.startswith(f"metadata.sparse_features.term_weights{fault}") if fault else found == ""


def test_a_query_has_each_of_its_words_once() -> None:
    indices, values = query_weights("The fox, the Dog: naïve fox!")
    assert indices.tolist() == sorted(term_index(word) for word in ("the", "fox", "dog", "naïve"))
    assert values.tolist() == [1.0] * 4
    assert len(query_weights("... !!!")[0]) == 0


@pytest.mark.parametrize(
    ("term", "query"),
    [
        ("e\u0301te\u0301", "L'été"),
        (" tapir\n", "a tapir"),
        ("हिन्दी", "मेरी हिन्दी किताब"),
        ("x\u0302", "x\u0302 = 3"),
        ("ที่นี่", "ที่นี่"),
        ("1", "1\ufe0f\u20e3"),
        ("love", "\u2764\ufe0f love"),
    ],
)
def test_a_word_of_a_query_finds_the_term_that_is_written_so(term: str, query: str) -> None:
    """Terms of the metadata stand there as somebody wrote them, with accents apart; texts and queries are in NFC."""
    found = metadata_weights(weighted({"term": term, "weight": 2}))
    assert found is not None
    assert found[0][0] in query_weights(preprocess(query))[0]


def test_marks_do_not_cut_words() -> None:
    assert len(query_weights("हिन्दी")[0]) == 1
    assert query_weights("नमस्ते_१ und Straße")[0].tolist() == sorted(
        term_index(word) for word in ("नमस्ते_१", "und", "STRASSE")
    )
