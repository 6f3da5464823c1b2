"""Normalize texts before they are embedded, by one of two policies. A run keeps the policy that it began with.

`nfc-blank-2`: line ends as newlines; word separators (form feed, vertical tab, next line, the information separators, U+2028
and U+2029) as a blank; other control characters but tab and newline removed; Unicode NFC; stripped.
`nfc-strip-1`, of version 0.1.0, removes the separators too and keeps U+2028 and U+2029.

The policy also fixes how records are read (`coordinator/intake/conventions.py`, `coordinator/reading/first_conventions.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby
from unicodedata import combining, is_normalized, normalize

from ..errors import UsageError

FIRST = "nfc-strip-1"
"""Also the policy of a spec without one."""
LATEST = "nfc-blank-2"

_ASCII_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n") + b"\x7f"
_BLANKS = "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"
# Control characters except tab and newline, and lone surrogates, which UTF-8 cannot encode. _REPLACED also has _BLANKS.
_REMOVED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_REPLACED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_SHORT = 1_024
"""Characters; quadratic work on so few takes a millisecond."""
_SPLIT_MARKS = {mark: normalize("NFD", mark) for mark in "\u0f73\u0f75\u0f81"}
"""The only characters that are not combining marks but decompose into nothing but such marks."""


def preprocessor(policy: str) -> Callable[[str], str]:
    """The function of a policy. UsageError for an unknown one."""
    found = POLICIES.get(policy)
    if found is None:
        known = " and ".join(map(repr, POLICIES))
        raise UsageError(f"preprocessing policy {policy!r} is not known; this build has {known}: update embedfleet")
    return found


def preprocess(text: str) -> str:
    """The text normalized by `nfc-blank-2`, perhaps empty. It always encodes as UTF-8, and the function is idempotent."""
    if text.isascii():
        data = text.encode()
        if len(data.translate(None, _ASCII_CONTROLS)) == len(data):
            return text.strip()
    return _normalized(_REPLACED.sub(_blank_or_nothing, _with_newlines(text)))


def preprocess_first(text: str) -> str:
    """The text normalized by `nfc-strip-1`; otherwise as `preprocess`."""
    if text.isascii():
        data = text.encode()
        if len(data.translate(None, _ASCII_CONTROLS)) == len(data):
            return text.strip()
    return _normalized(_REMOVED.sub("", _with_newlines(text)))


POLICIES: dict[str, Callable[[str], str]] = {FIRST: preprocess_first, LATEST: preprocess}


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _blank_or_nothing(found: re.Match[str]) -> str:
    return " " if found[0] in _BLANKS else ""


def _normalized(text: str) -> str:
    """The text in NFC, stripped. Call it after the removal: a removed character may separate a letter from its accent."""
    if not is_normalized("NFC", text):
        text = normalize("NFC", text if len(text) <= _SHORT else _ordered(text))
    return text.strip()


def _ordered(text: str) -> str:
    """The text with each run of combining marks in canonical order; its NFC is the same.

    Python's own ordering takes quadratic time in the length of a run: hours for a text of 10 MB.
    """
    for mark, parts in _SPLIT_MARKS.items():
        text = text.replace(mark, parts)
    runs = (sorted(run, key=combining) if marks else run for marks, run in groupby(text, _is_mark))
    return "".join("".join(run) for run in runs)


def _is_mark(character: str) -> bool:
    return combining(character) != 0
