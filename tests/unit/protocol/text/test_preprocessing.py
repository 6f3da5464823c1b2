"""The policies nfc-blank-2 and nfc-strip-1."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Callable

import pytest
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.text import preprocessing
from embedfleet.protocol.text.preprocessing import FIRST, LATEST, POLICIES, preprocess, preprocess_first, preprocessor
from hypothesis import given
from hypothesis import strategies as st

ALIKE = pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("  a\tb\nc  \n", "a\tb\nc"),
        ("a\r\nb\rc\r\r\nd", "a\nb\nc\n\nd"),
        ("a\x00b\x07c\x7fd\x1be", "abcde"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("e\x00\u0301", "\u00e9"),
        ("a\u0080b\u009fc\u00a0", "abc"),
        ("\u3000\u00fc\u2028", "\u00fc"),
        ("a\ud800b\udfff\u00e9", "ab\u00e9"),
        ("\U0001f600\u200d", "\U0001f600\u200d"),
        ("\x00\x01 \r\n", ""),
        ("", ""),
    ],
)


@ALIKE
@pytest.mark.parametrize("policy", [FIRST, LATEST])
def test_what_both_policies_do(policy: str, text: str, expected: str) -> None:
    assert preprocessor(policy)(text) == expected


@pytest.mark.parametrize("sign", list("\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"))
@pytest.mark.parametrize("word", ["page", "p\u00e4ge"])
def test_what_stands_between_words_becomes_a_blank(sign: str, word: str) -> None:
    assert preprocess(f"{sign}{word}{sign}Start{sign}") == f"{word} Start"
    first = preprocess_first(f"{sign}{word}{sign}Start{sign}")
    assert first == (f"{word}{sign}Start" if sign in "\u2028\u2029" else f"{word}Start"), "runs of 0.1.0 keep theirs"


def test_a_policy_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="'nfc-9' is not known; this build has 'nfc-strip-1' and 'nfc-blank-2'"):
        preprocessor("nfc-9")


@given(st.text(st.characters()) | st.text(st.sampled_from("ae\u0301\r\n\t \x00\x0c\x85\u2028\u00a0\ud800\u1100\u1161")))
def test_result_is_clean_and_stays_as_it_is(text: str) -> None:
    for clean in POLICIES.values():
        check_clean(clean, text)


def check_clean(clean: Callable[[str], str], text: str) -> None:
    result = clean(text)
    result.encode()
    assert clean(result) == result
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
