"""Shorten long words for BM25: its stemmer takes quadratic time in a word's length, hours for a word of 10 MB."""

from __future__ import annotations

import re

MAX_WORD = 10_000
"""The most characters of a word; for these the stemmer takes a millisecond."""

# A run without the common characters at which the engine splits. It has a whole word, perhaps more.
_RUN = re.compile(r"[^\s!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f\uff00-\uff0f]+")


def bounded_words(text: str) -> str:
    """The text with each word cut to MAX_WORD characters; for documents and queries."""
    if len(text) <= MAX_WORD or max(map(len, text.split()), default=0) <= MAX_WORD:
        return text
    return _RUN.sub(_cut, text)


def _cut(run: re.Match[str]) -> str:
    return run[0][:MAX_WORD]
