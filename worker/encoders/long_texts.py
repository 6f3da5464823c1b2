"""The part of a very long text that its tokens come from, so that a model of 256 tokens need not tokenize 10 MB.

Tokenizers that cut at the left keep the end of a text, the others its beginning.

A fast tokenizer keeps some 150 bytes for each token before it truncates, and takes a second for a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Callable

CHARS_A_TOKEN = 64
"""A first guess on the safe side: English has 4 or 5."""
LEAST = 8_192
"""The least size of a part. Texts of up to twice as many characters are tokenized whole, so that their tokens are counted,
not estimated."""
_SPACE = re.compile(r"\s")


def head(text: str, tokens: int, count: Callable[[str], int]) -> str:
    """The beginning of `text` that has at least twice `tokens` tokens, or all of it.

    It ends before a space, so that its last word is whole. Its first `tokens` tokens, and that there are more, are
    therefore those of the whole text: what a tokenizer does with a word may depend on its neighbours, but not on a word
    that is `tokens` tokens away. A text without spaces is given whole. `count` tokenizes without truncating.
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


def tail(text: str, tokens: int, count: Callable[[str], int]) -> str:
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


def whole_count(tokens: int, piece: str, text: str) -> int:
    """The tokens of `text`, whose part `piece` has `tokens`: exact if that is all of it, else in proportion to the length."""
    return tokens if len(piece) == len(text) else round(tokens * len(text) / len(piece))
