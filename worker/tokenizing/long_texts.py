"""The part of a very long text that has to be tokenized.

The end for tokenizers that truncate at the left, otherwise the beginning. A tokenizer takes a second for a megabyte, and
150 bytes for each token before it truncates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .flat import Int64
from .texts import Texts

CHARS_A_TOKEN = 64
"""A cautious first guess: English has 4 or 5."""
LEAST = 8_192
"""The smallest part in characters. Texts of up to twice this length are tokenized whole, so that their tokens are counted
exactly."""
_SPACE = re.compile(r"\s")

Count = Callable[[str], int]
"""Tokenizes a text without truncating it; returns the number of its tokens, without special ones."""


@dataclass(frozen=True, slots=True)
class Shortened:
    """Texts of which only a part is left, and by how much each row's tokens must be multiplied."""

    texts: Texts
    parts: dict[int, tuple[int, int]]
    """By row: the characters of its part, and of the whole text."""

    def whole_counts(self, counts: Int64) -> Int64:
        """The tokens of the whole texts, from those of the parts (n)."""
        if not self.parts:
            return counts
        found = counts.copy()
        for row, (part, whole) in self.parts.items():
            found[row] = scaled(int(counts[row]), part, whole)
        return found


def shorten(texts: Texts, tokens: Int64, side: str, count: Count) -> Shortened:
    """Cut each very long text to its head, or to its tail if `side` is `left`. `tokens` (n): the most that are kept of it."""
    part = tail if side == "left" else head
    long = np.flatnonzero(texts.sizes() > 2 * np.maximum(2 * tokens * CHARS_A_TOKEN, LEAST)).tolist()
    if not long:
        return Shortened(texts, {})
    parts: dict[int, tuple[int, int]] = {}
    bytes_of: list[bytes | memoryview] = [*texts.parts()]
    for row in long:
        whole = texts[row]
        piece = part(whole, int(tokens[row]), count)
        if len(piece) < len(whole):
            parts[row] = len(piece), len(whole)
            bytes_of[row] = piece.encode()
    return Shortened(Texts.join(bytes_of), parts) if parts else Shortened(texts, {})


def head(text: str, tokens: int, count: Count) -> str:
    """The beginning of `text` that has at least twice `tokens` tokens, or all of it.

    It ends before a space, so that its last word is whole. Its first `tokens` tokens, and that there are more, are
    therefore those of the whole text: what a tokenizer does with a word may depend on its neighbours, but not on a word
    that is `tokens` tokens away. A text without spaces is returned whole.
    """
    size = max(2 * tokens * CHARS_A_TOKEN, LEAST)
    while 2 * size < len(text):
        space = _SPACE.search(text, size)
        if space is None or 2 * space.start() > len(text):
            return text
        piece = text[: space.start()]
        if count(piece) >= 2 * tokens:
            return piece
        size = 4 * len(piece)
    return text


def tail(text: str, tokens: int, count: Count) -> str:
    """As `head`, but the end of `text`, for a tokenizer that keeps the last `tokens` tokens. It begins with a space."""
    size = max(2 * tokens * CHARS_A_TOKEN, LEAST)
    while 2 * size < len(text):
        before = text[len(text) // 2 : len(text) - size]
        space = _SPACE.search(before[::-1])
        if space is None:
            return text
        piece = text[len(text) - size - space.end() :]
        if count(piece) >= 2 * tokens:
            return piece
        size = 4 * len(piece)
    return text


def scaled(tokens: int, part: int, whole: int) -> int:
    """Tokens of a text of `whole` characters, estimated in proportion from a part of it; exact if it is all of it."""
    return tokens if part == whole else round(tokens * whole / part)
