"""Texts as BM25 may be given them: its stemmer takes time that is quadratic in a word's length, hours for one of 10 MB."""

from __future__ import annotations

import re

MAX_WORD = 10_000
"""Characters of a word that count; with so many, the stemmer takes a millisecond."""

# What the engine splits at, less what is rare: a run of it holds a word whole, and perhaps a little more.
_RUN = re.compile(r"[^\s!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f\uff00-\uff0f]+")


def bounded_words(text: str) -> str:
    """The text with what is over MAX_WORD cut from each word, in a document as in a query."""
    if len(text) <= MAX_WORD or max(map(len, text.split()), default=0) <= MAX_WORD:
        return text
    return _RUN.sub(_cut, text)


def _cut(run: re.Match[str]) -> str:
    return run[0][:MAX_WORD]
