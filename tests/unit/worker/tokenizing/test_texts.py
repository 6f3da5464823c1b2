"""Texts as bytes and offsets."""

from __future__ import annotations

import numpy as np
import pytest
from embedfleet.worker.tokenizing.texts import Texts
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.text()), st.text(max_size=5))
def test_they_are_the_strings(texts: list[str], prompt: str) -> None:
    found = Texts.of(texts)
    assert list(found) == texts
    assert found[:] == texts
    assert found[1:3] == texts[1:3]
    assert len(found) == len(texts)
    assert [bytes(part).decode() for part in found.parts()] == texts
    assert found.sizes().tolist() == [len(text.encode()) for text in texts]
    assert list(found.after(prompt)) == [prompt + text for text in texts]
    assert Texts.of(found) is found
    if texts:
        assert found[-1] == texts[-1]
    with pytest.raises(IndexError):
        found[len(texts)]


@pytest.mark.parametrize("offsets", [[], [0], [0, 2], [1, 3], [0, 2, 1, 3], [0, 4]])
def test_offsets_that_do_not_divide_the_bytes(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="do not divide 3 bytes"):
        Texts(b"abc", np.array(offsets, np.int64))


def test_bytes_that_are_not_utf_8() -> None:
    found = Texts(b"a\xffb", np.array([0, 1, 3], np.int64))
    assert found[0] == "a"
    with pytest.raises(UnicodeDecodeError):
        found[1]


def test_numbers_that_are_no_bytes() -> None:
    for blob in (np.zeros(3, np.int32), np.zeros((3, 1), np.uint8)):
        with pytest.raises(ValueError, match="the texts are no bytes"):
            Texts(blob, np.array([0, 3], np.int64))
    assert list(Texts(np.zeros(0, np.uint8).data, np.zeros(2, np.int64))) == [""]
