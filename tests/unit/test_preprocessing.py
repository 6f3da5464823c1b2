"""The policy nfc-strip-1."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from embedfleet.protocol import preprocessing
from embedfleet.protocol.preprocessing import preprocess
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("  a\tb\nc  \n", "a\tb\nc"),
        ("a\r\nb\rc\r\r\nd", "a\nb\nc\n\nd"),
        ("a\x00b\x07c\x7fd\x1be", "abcde"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("e\x00\u0301", "\u00e9"),
        ("a\u0085b\u009fc\u00a0", "abc"),
        ("\u3000\u00fc\u2028", "\u00fc"),
        ("a\ud800b\udfff\u00e9", "ab\u00e9"),
        ("\U0001f600\u200d", "\U0001f600\u200d"),
        ("\x00\x01 \r\n", ""),
        ("", ""),
    ],
)
def test_policy(text: str, expected: str) -> None:
    assert preprocess(text) == expected


@given(st.text(st.characters()) | st.text(st.sampled_from("ae\u0301\r\n\t \x00\x85\u00a0\ud800\u1100\u1161")))
def test_result_is_clean_and_stays_as_it_is(text: str) -> None:
    result = preprocess(text)
    result.encode()
    assert preprocess(result) == result
    assert unicodedata.is_normalized("NFC", result)
    assert not [one for one in result if unicodedata.category(one) in ("Cc", "Cs") and one not in "\t\n"]
    assert result == result.strip()


MARKS = "\u0300\u0315\u0316\u0323\u0344\u0345\u0f71\u0f73\u0f75\u0f81\u0f72\u05b0\u3099"


@given(st.text(st.sampled_from("aeo\u00e9\u1ebf\u0f40\uac00 \u0391" + MARKS), max_size=60), st.integers(1, 3))
def test_long_texts_come_out_as_short_ones_do(text: str, times: int) -> None:
    """Above 1,024 characters marks are sorted by another hand."""
    long = text * times + "a" * 1_025
    assert preprocess(long) == unicodedata.normalize("NFC", long).strip()


@pytest.mark.parametrize("marks", ["\u0315\u0300", "\u0f73", "\u0344\u0316", "\u0323\u0345\u0f71"])
def test_endless_marks_take_time_in_proportion(marks: str) -> None:
    start = time.monotonic()
    preprocess("a" + marks * 500_000)
    assert time.monotonic() - start < 5  # Python's own ordering takes minutes


def test_no_other_character_becomes_marks_alone() -> None:
    """Those of `_SPLIT_MARKS` are all that Unicode has, so no run of others can be quadratic."""
    found = {
        chr(code)
        for code in range(sys.maxunicode + 1)
        if not unicodedata.combining(chr(code)) and unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0])
    }
    assert found == set(preprocessing._SPLIT_MARKS)
