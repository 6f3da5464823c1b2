"""The preprocessing policy `nfc-strip-1`: what every text goes through before it is embedded."""

from __future__ import annotations

import re
from itertools import groupby
from unicodedata import combining, is_normalized, normalize

_ASCII_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n") + b"\x7f"
# Category Cc but tab and newline, and lone surrogates, which UTF-8 cannot carry.
_REMOVED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

_SHORT = 1_024
"""Characters; what is quadratic in them takes a millisecond."""
_SPLIT_MARKS = {mark: normalize("NFD", mark) for mark in "\u0f73\u0f75\u0f81"}
"""The only characters that are no marks themselves and become nothing but marks in NFC."""


def preprocess(text: str) -> str:
    """Line ends as newlines, control characters removed, Unicode NFC, stripped; may come out empty.

    The result always encodes as UTF-8, and going through again changes nothing.
    """
    if text.isascii():
        data = text.encode()
        if len(data.translate(None, _ASCII_CONTROLS)) == len(data):
            return text.strip()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Before NFC: a removed character may have stood between a letter and its accent.
    text = _REMOVED.sub("", text)
    if not is_normalized("NFC", text):
        text = normalize("NFC", text if len(text) <= _SHORT else _ordered(text))
    return text.strip()


def _ordered(text: str) -> str:
    """The text with each run of combining marks in canonical order, which NFC makes the same of.

    Python's own ordering takes time that is quadratic in the length of a run: hours for a text of 10 MB.
    """
    for mark, parts in _SPLIT_MARKS.items():
        text = text.replace(mark, parts)
    runs = (sorted(run, key=combining) if marks else run for marks, run in groupby(text, _is_mark))
    return "".join("".join(run) for run in runs)


def _is_mark(character: str) -> bool:
    return combining(character) != 0
