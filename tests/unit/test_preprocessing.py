"""The policy nfc-strip-1."""

from __future__ import annotations

import unicodedata

import pytest
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
