"""What the cache remembers, what it asks for, and its bounds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.tokenizing.texts import Texts
from embedfleet.worker.tokenizing.word_cache import WordCache
from embedfleet.worker.tokenizing.word_table import WordTable


class Library:
    """Each character is a token; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, words: Sequence[bytes]) -> tuple[Any, Any, Any]:
        self.asked.append([word.decode() for word in words])
        if b"bad" in words:
            raise ValueError("bad")
        ids = [[ord(one) for one in word if one != " "] for word in self.asked[-1]]
        counts = np.array([len(one) for one in ids], np.int64)
        return np.array([*itertools.chain(*ids)], np.int32), np.cumsum(counts) - counts, counts


def tokenize(cache: WordCache, *texts: str) -> list[str]:
    ids, bounds = cache.tokenize(Texts.of(texts))
    return ["".join(map(chr, ids[start:stop])) for start, stop in itertools.pairwise(bounds)]


def test_each_word_is_asked_for_once() -> None:
    library = Library()
    cache = WordCache(library, [b"[X]"], lowercase=True)
    longest, longer = "q" * 16, "r" * 17
    texts = (
        "The cat, the CAT",
        f"{longest} {longer} caf\u00e9",
        f"a[X]b [x] {longer.upper()}",
        "nul\0 nul",
        "caf\u00e9",
    )
    found = tokenize(cache, *texts)
    assert found == ["thecat,thecat", f"{longest}{longer}caf\u00e9", f"a[X]b[x]{longer}", "nul\0nul", "caf\u00e9"]
    (asked,) = library.asked
    assert sorted(asked) == sorted(["the", "cat", ",", longest, "caf\u00e9", "nul", longer, " a[X]b", " [x]", "nul\0"])
    assert tokenize(cache, *texts) == found
    assert len(library.asked) == 1
    assert cache.count == len(asked)


def test_case_and_a_piece_with_an_added_token() -> None:
    library = Library()
    cache = WordCache(library, [b"foo"], lowercase=False)
    assert tokenize(cache, "Foo foo FOOD food the The") == ["FoofooFOODfoodtheThe"]
    assert sorted(library.asked[0]) == [" foo", " food", "FOOD", "Foo", "The", "the"]


def test_it_begins_anew_with_too_many_words() -> None:
    library = Library()
    cache = WordCache(library, [], lowercase=True, max_words=3)
    tokenize(cache, "a b c")
    tokenize(cache, "a b c d")
    assert cache.count == 4
    assert tokenize(cache, "a e") == ["ae"]
    assert cache.count == 2
    assert sorted(library.asked[-1]) == ["a", "e"]


def test_it_begins_anew_with_too_many_bytes() -> None:
    least = WordCache(Library(), [], lowercase=True).n_bytes
    cache = WordCache(Library(), [], lowercase=True, max_bytes=least + 3_000)
    tokenize(cache, "x" * 4_000, "y")
    assert cache.n_bytes > least + 4_000
    tokenize(cache, "a")
    assert (cache.count, cache.n_bytes) == (1, least)


def test_a_failure_of_the_library_leaves_nothing_half_known() -> None:
    cache = WordCache(Library(), [], lowercase=True)
    tokenize(cache, "some words")
    with pytest.raises(ValueError, match="bad"):
        tokenize(cache, "new bad words")
    assert cache.count == 0
    assert tokenize(cache, "new words") == ["newwords"]


def test_hashes_differ_between_tables() -> None:
    assert WordTable()._multipliers != WordTable()._multipliers
