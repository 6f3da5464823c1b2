"""The passage of a text that has most of a query's words, with the places of these words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple
from unicodedata import combining, normalize

Stem = Callable[[str], int | None]
"""A number for all forms of a word; None for a stop word."""

MOST_CHARACTERS = 1_000_000
"""Words are looked for in the first of a text only."""
MOST_STEMMED = 100
"""Characters of a longer word are compared as they are: the stemmer takes quadratic time."""

_WORD = re.compile(r"[^\W_]+")


class Mark(NamedTuple):
    """A word of the query in a text: where it begins and ends, and the number of the word."""

    start: int
    end: int
    word: int


class Passage(NamedTuple):
    """A part of a text, with the words of the query in it."""

    text: str
    marks: Sequence[Mark]


class QueryWords:
    """Finds a query's words in texts, in any case, with or without accents, and in other forms of the same stem.

    Stop words count only in a query that has no other word.
    """

    def __init__(self, query: str, stem: Stem) -> None:
        self._stem = cache(stem)
        words = list(dict.fromkeys(_plain(one[0]) for one in _WORD.finditer(query)))
        telling = [word for word in words if self._stem_of(word) is not None] or words
        self._numbers: dict[str | int | None, int] = {}
        for word in telling:
            stem_or_word = self._stem_of(word)
            number = self._numbers.setdefault(word if stem_or_word is None else stem_or_word, len(self._numbers))
            self._numbers[word] = number

    def marks(self, text: str) -> list[Mark]:
        """The query's words in the text, in order."""
        found: list[Mark] = []
        for one in _WORD.finditer(text, 0, MOST_CHARACTERS):
            word = _plain(one[0])
            number = self._numbers.get(word)
            if number is None and (stem := self._stem_of(word)) is not None:
                number = self._numbers.get(stem)
            if number is not None:
                found.append(Mark(one.start(), one.end(), number))
        return found

    def _stem_of(self, word: str) -> int | None:
        return self._stem(word) if len(word) <= MOST_STEMMED else None


def find_passage(text: str, words: QueryWords, size: int) -> Passage:
    """About `size` characters of the text, without line breaks: where most of the query's words are, else the beginning.

    An ellipsis stands for what is left out before and after.
    """
    text = " ".join(text[:MOST_CHARACTERS].split())
    marks = words.marks(text)
    first, last = _densest(marks, size)
    around = max(0, size - (last - first)) // 2
    start = max(0, min(first - around, len(text) - size))
    end = min(len(text), start + size)
    if start:
        start = text.find(" ", start, max(first, start) + 1) + 1 or start
    if end < len(text):
        end = max(text.rfind(" ", last, end), 0) or end
    before, after = "… " if start else "", " …" if end < len(text) else ""
    moved = len(before) - start
    within = [
        Mark(one.start + moved, one.end + moved, one.word) for one in marks if start <= one.start < one.end <= end
    ]
    return Passage(f"{before}{text[start:end]}{after}", within)


def english_stem() -> Stem:
    """The stems of BM25, as the engine computes them."""
    import qdrant_edge as edge

    model = edge.Bm25()

    def stem(word: str) -> int | None:
        return next(iter(model.embed_query(word).indices), None)

    return stem


def _densest(marks: Sequence[Mark], size: int) -> tuple[int, int]:
    """From where to where the first span lies, of at most `size` characters, with most of the words, then with most marks."""
    best, most, left, counts = (0, 0), (0, 0), 0, Counter[int]()
    for right, mark in enumerate(marks):
        counts[mark.word] += 1
        while mark.end - marks[left].start > size and left < right:
            counts[marks[left].word] -= 1
            left += 1
        score = (sum(1 for count in counts.values() if count), right - left + 1)
        if score > most:
            best, most = (marks[left].start, mark.end), score
    return best


def _plain(word: str) -> str:
    """In lower case and without accents."""
    if word.isascii():
        return word.lower()
    return "".join(one for one in normalize("NFKD", word.casefold()) if not combining(one))
