"""Tokenize texts for a model, separately from its computation.

Of a very long text, only the part that is kept is tokenized: the end for tokenizers that truncate at the left, otherwise the
beginning. A fast tokenizer takes a second for a megabyte, and 150 bytes for each token before it truncates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...protocol.text.token_estimates import estimated_tokens
from .base import Prepared

LONGEST = 1 << 17
"""The most tokens of any text; a tokenizer without a limit reports a huge number."""
CHARS_A_TOKEN = 64
"""A cautious first guess: English has 4 or 5."""
LEAST = 8_192
"""The smallest part in characters. Texts of up to twice this length are tokenized whole, so that their tokens are counted
exactly."""
_SPACE = re.compile(r"\s")


def is_plain_text(module: Any, tokenizer: Any) -> bool:
    """Whether the model passes texts unchanged to a fast tokenizer, so that they can be tokenized separately."""
    modes = getattr(module, "modality_config", {"text": None})
    return bool(getattr(tokenizer, "is_fast", False)) and "text" in modes and "message" not in modes


def tokenize(
    tokenizer: Any,
    most: int,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
    prompt: str = "",
    *,
    types_are_zero: bool,
) -> Prepared:
    """Tokenize texts with the prompt before them, or pairs of them and `seconds`, to at most `most` tokens. With
    `types_are_zero`, a single text gets no token types: the model assumes them."""
    if not texts:
        return Prepared(np.empty(0, np.int32), np.empty(0, np.bool_), [], np.empty(0, np.int32))
    part = tail if tokenizer.truncation_side == "left" else head
    count = partial(_tokens_in, tokenizer)
    wholes = firsts = [prompt + text for text in texts]
    if seconds is None:
        firsts = [part(text, most, count) for text in firsts]
    else:
        # A cut second text must stay longer than its first, since the longer one is truncated.
        least = [most + len(first.encode()) for first in firsts]
        wholes, seconds = seconds, [part(text, size, count) for text, size in zip(seconds, least, strict=True)]
    encoded = tokenizer(
        firsts,
        list(seconds) if seconds is not None else None,
        truncation=True,  # of pairs, the longer text first
        max_length=most,
        return_attention_mask=False,
        return_token_type_ids=False if seconds is None and types_are_zero else None,
        verbose=False,
    )
    lengths = np.array([len(one) for one in encoded["input_ids"]], np.int32)
    left_out = [one.overflowing for one in encoded.encodings]
    cut = np.zeros(len(texts), np.int64)
    special = tokenizer.num_special_tokens_to_add(pair=seconds is not None)
    for row, parts in enumerate(left_out):
        if not parts:
            continue
        kept = int(lengths[row]) - special
        if seconds is None:
            tokens = kept + sum(map(len, parts)) - special * len(parts)
            cut[row] = whole_count(tokens, firsts[row], wholes[row]) - kept
        else:  # for pairs, overflow comes in every combination of their sides
            second = whole_count(count(seconds[row]), seconds[row], wholes[row])
            cut[row] = count(firsts[row]) + second - kept
    truncated = np.array([bool(parts) for parts in left_out], np.bool_)
    return Prepared(lengths, truncated, dict(encoded), cut.clip(max=np.iinfo(np.int32).max).astype(np.int32))


def estimate(most: int, texts: Sequence[str], seconds: Sequence[str] | None = None, prompt: str = "") -> Prepared:
    """Prepare texts for a model that tokenizes itself. Lengths are estimated; truncation is unknown."""
    pairs = zip(texts, seconds, strict=True) if seconds is not None else ((text, "") for text in texts)
    lengths = [min(estimated_tokens(len(prompt + text + second), 1), most) for text, second in pairs]
    items = list(texts) if seconds is None else list(zip(texts, seconds, strict=True))
    cut = np.full(len(texts), 0 if most == LONGEST else -1, np.int32)
    return Prepared(np.array(lengths, np.int32), np.zeros(len(texts), np.bool_), items, cut)


def head(text: str, tokens: int, count: Callable[[str], int]) -> str:
    """The beginning of `text` that has at least twice `tokens` tokens, or all of it.

    It ends before a space, so that its last word is whole. Its first `tokens` tokens, and that there are more, are
    therefore those of the whole text: what a tokenizer does with a word may depend on its neighbours, but not on a word
    that is `tokens` tokens away. A text without spaces is returned whole. `count` tokenizes without truncating.
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
    """Tokens of `text`, estimated in proportion from `piece`, a part of it with `tokens` tokens; exact if it is all of it."""
    return tokens if len(piece) == len(text) else round(tokens * len(text) / len(piece))


def _tokens_in(tokenizer: Any, text: str) -> int:
    """Tokens of the whole text, without special tokens."""
    return len(tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])
