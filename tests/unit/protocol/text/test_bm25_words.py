"""Words that BM25 is given: all of them as they are, but none that its stemmer would take hours for."""

from __future__ import annotations

import time

import pytest
from embedfleet.protocol.text.bm25_words import MAX_WORD, bounded_words
from hypothesis import given
from hypothesis import strategies as st


@given(st.text(max_size=200))
def test_a_text_of_short_words_is_given_as_it_is(text: str) -> None:
    padding = " some words" * (MAX_WORD // 10)
    assert bounded_words(text + padding) == text + padding
    assert bounded_words(text) == text


@pytest.mark.parametrize("separator", [" ", "\n", ".", "-", "\u3002", "\u200b", "/"])
def test_only_what_is_over_the_limit_is_cut(separator: str) -> None:
    first, word, last = "alpha", "\u00fc" * (MAX_WORD + 1), "omega"
    text = separator.join((first, word, last))
    assert bounded_words(text) == separator.join((first, word[:-1], last))
    fitting = separator.join((first, word[:-1], last))
    assert bounded_words(fitting) == fitting


def test_the_engine_takes_its_time_in_proportion() -> None:
    edge = pytest.importorskip("qdrant_edge")
    model = edge.Bm25(edge.Bm25Config(k=1.2, b=0.75, avg_len=256))
    start = time.monotonic()
    found = model.embed_document(bounded_words("y" * 5_000_000 + " alpha"))
    assert time.monotonic() - start < 2  # uncut, it takes minutes
    assert len(found.indices) == 2
    assert set(model.embed_document("alpha").indices) < set(found.indices)
    many = " ".join(["y" * MAX_WORD] * 200)
    start = time.monotonic()
    model.embed_document(bounded_words(many))
    assert time.monotonic() - start < 5
