"""A cache that is compared with the library, and given up when it differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from embedfleet.worker.tokenizing.cached import CachedTokenizer
from embedfleet.worker.tokenizing.checked import CheckedTokenizer, first_difference
from embedfleet.worker.tokenizing.flat import FlatTokens
from embedfleet.worker.tokenizing.library import LibraryTokenizer
from embedfleet.worker.tokenizing.supported import read
from embedfleet.worker.tokenizing.texts import Texts

from ....tiny_tokenizers import bert

TEXTS = Texts.of(["the cat", "", "sat sat sat"])


class Broken:
    """A cached tokenizer whose batches are changed by `change`, from the batch `since` on."""

    def __init__(self, cached: CachedTokenizer, since: int, change: Callable[[FlatTokens], FlatTokens]) -> None:
        self._cached, self._since, self._change = cached, since, change
        self.batches = 0

    def encode(self, *arguments: Any) -> FlatTokens:
        found = self._cached.encode(*arguments)
        self.batches += 1
        return self._change(found) if self.batches > self._since else found


def checked(
    since: int, change: Callable[[FlatTokens], FlatTokens], every: int, first: int = 1, **options: Any
) -> tuple[CheckedTokenizer, Broken, list[str]]:
    tokenizer, reasons = bert(**options), list[str]()
    known = read(tokenizer)
    assert not isinstance(known, str)
    broken = Broken(CachedTokenizer(tokenizer, known, 4), since, change)
    cached: Any = broken
    return CheckedTokenizer(cached, LibraryTokenizer(tokenizer, 4), reasons.append, first, every), broken, reasons


def another_id(found: FlatTokens) -> FlatTokens:
    ids = found.ids.copy()
    ids[-2] += 1
    return replace(found, ids=ids)


def test_every_so_many_batches_are_compared() -> None:
    tokenizer, broken, reasons = checked(1, another_id, every=3)
    right = tokenizer.encode(TEXTS)
    for _ in range(2):  # wrong, but not compared
        assert tokenizer.encode(TEXTS).rows() != right.rows()
    assert not reasons
    assert tokenizer.encode(TEXTS).rows() == right.rows()
    assert reasons == ["row 2 of 3 differs"]
    for _ in range(7):  # given up for good
        assert tokenizer.encode(TEXTS).rows() == right.rows()
    assert len(reasons) == 1
    assert broken.batches == 4


@pytest.mark.parametrize("first", [1, 3])
def test_the_first_batches_are_compared(first: int) -> None:
    tokenizer, _, reasons = checked(first - 1, another_id, every=1_000, first=first)
    for _ in range(first):
        assert not reasons
        tokenizer.encode(TEXTS)
    assert reasons == ["row 2 of 3 differs"]


def test_a_fault_of_the_cache_alone_gives_it_up() -> None:
    def fail(_found: FlatTokens) -> FlatTokens:
        raise IndexError("out of bounds")

    tokenizer, broken, reasons = checked(1, fail, every=1_000)
    right = tokenizer.encode(TEXTS)
    assert tokenizer.encode(TEXTS).rows() == right.rows()
    assert reasons == ["IndexError: out of bounds"]
    tokenizer.encode(TEXTS)
    assert broken.batches == 2


def test_what_the_library_refuses_too_is_no_fault_of_the_cache() -> None:
    tokenizer, broken, reasons = checked(9, another_id, every=1_000, unknown=False)
    with pytest.raises(Exception, match="WordPiece error"):
        tokenizer.encode(Texts.of(["\u2603"]))
    tokenizer.encode(TEXTS)
    assert not reasons
    assert broken.batches == 1


def flat(lengths: list[int], **changes: Any) -> FlatTokens:
    count = len(lengths)
    as_is = FlatTokens(
        np.arange(sum(lengths), dtype=np.int32),
        np.array(lengths, np.int32),
        np.zeros(count, np.bool_),
        np.zeros(count, np.int32),
    )
    return replace(as_is, **changes)


def test_the_first_row_that_differs() -> None:
    one = flat([2, 0, 3])
    assert first_difference(one, flat([2, 0, 3])) is None
    assert first_difference(one, flat([2, 1, 2])) == 1
    assert first_difference(one, flat([2, 0, 3], ids=np.array([0, 1, 9, 3, 4], np.int32))) == 2
    assert first_difference(one, flat([2, 0, 3], ids=np.array([0, 9, 9, 3, 4], np.int32))) == 0
    assert first_difference(one, flat([2, 0, 3], truncated=np.array([False, True, False]))) == 1
    assert first_difference(one, flat([2, 0, 3], cut=np.array([0, 0, 7], np.int32))) == 2
    typed = flat([2, 0, 3], types=np.array([0, 0, 0, 1, 1], np.uint8))
    assert first_difference(one, typed) == first_difference(typed, one) == 2
    assert first_difference(typed, typed) is None
    assert first_difference(one, flat([2, 0, 3], types=np.zeros(5, np.uint8))) is None
    assert first_difference(flat([]), flat([])) is None
