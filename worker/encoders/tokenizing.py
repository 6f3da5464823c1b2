"""Tokenize texts for a model, separately from its computation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocol.text.token_estimates import estimated_tokens
from ..backends.pack import Pack, pack_lists, pack_rows
from ..models.text_limits import LONGEST
from ..tokenizing.flat import FlatTokens, Int64, pad
from ..tokenizing.long_texts import head, scaled, tail
from ..tokenizing.texts import Texts
from .base import IntArray, Prepared

if TYPE_CHECKING:
    from ..tokenizing.tokenizer import TextTokenizer

_METHODS = ("__call__", "_encode_plus", "_convert_encoding", "set_truncation_and_padding", "pad", "_pad")
"""What transformers calls between a text and the arrays of a model."""


def is_plain_text(module: Any, tokenizer: Any) -> bool:
    """Whether the model passes texts unchanged to a fast tokenizer, so that they can be tokenized separately."""
    modes = getattr(module, "modality_config", {"text": None})
    return bool(getattr(tokenizer, "is_fast", False)) and "text" in modes and "message" not in modes


class ModelTokenizer:
    """A tokenizer of transformers, without its overhead: the same ids and arrays, from flat tokens.

    Rows have at most `most` tokens. With `types_are_zero`, a single text gets no token types: the model assumes them.
    `on_difference` is called with a reason if the cache of words has to be given up. A tokenizer whose class changes what
    transformers does is called itself. Not thread-safe; it is opened with the first texts.
    """

    def __init__(
        self, tokenizer: Any, most: int, *, types_are_zero: bool, on_difference: Callable[[str], None]
    ) -> None:
        self._tokenizer, self._most, self._types_are_zero = tokenizer, most, types_are_zero
        self._on_difference = on_difference
        self._has_types = "token_type_ids" in tokenizer.model_input_names
        self._opened = False
        self._texts: TextTokenizer | None = None

    def prepare(self, texts: Sequence[str], seconds: Sequence[str] | None = None, prompt: str = "") -> Prepared:
        """Tokenize texts with the prompt before them, or pairs of them and `seconds`."""
        if not self._opened:
            self._texts, self._opened = self._open(), True
        if self._texts is None:
            return tokenize(self._tokenizer, self._most, texts, seconds, prompt, types_are_zero=self._types_are_zero)
        others = Texts.of(seconds) if seconds is not None else None
        found = self._texts.encode(Texts.of(texts), others, prompt)
        types = None
        if self._has_types and (seconds is not None or not self._types_are_zero):
            types = found.types if found.types is not None else np.zeros(len(found.ids), np.uint8)
        return Prepared(found.lengths, found.truncated, replace(found, types=types), found.cut)

    def padded(self, prepared: Prepared, rows: IntArray) -> dict[str, Int64]:
        """These rows' `input_ids`, `attention_mask`, and `token_type_ids` if the model takes them, padded to the longest."""
        if not isinstance(prepared.items, FlatTokens):
            picked = {name: [lists[row] for row in rows.tolist()] for name, lists in prepared.items.items()}
            return dict(self._tokenizer.pad(picked, return_tensors="np", return_attention_mask=True))
        left = self._tokenizer.padding_side == "left"
        fills = int(self._tokenizer.pad_token_id), int(self._tokenizer.pad_token_type_id)
        return pad(prepared.items, rows, *fills, left=left)

    def packed(self, prepared: Prepared, rows: IntArray) -> Pack:
        """These rows' tokens one after the other."""
        if isinstance(prepared.items, FlatTokens):
            return pack_rows(prepared.items, rows)
        return pack_lists(prepared.items, rows)

    def _open(self) -> TextTokenizer | None:
        from ..tokenizing.tokenizer import open_tokenizer

        if self._tokenizer.pad_token_id is None or not _calls_the_library(self._tokenizer):
            return None
        backend = self._tokenizer.backend_tokenizer
        backend.encode_special_tokens = self._tokenizer.split_special_tokens
        side = self._tokenizer.truncation_side
        try:
            return open_tokenizer(backend, self._most, side=side, on_difference=self._on_difference)
        except Exception:  # noqa: BLE001 - one with parts in Python, or that its own file does not describe
            return None


def _calls_the_library(tokenizer: Any) -> bool:
    """Whether transformers does with its texts what it does for every fast tokenizer."""
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    same = all(getattr(kind, name, None) is getattr(PreTrainedTokenizerFast, name, None) for name in _METHODS)
    return same and not hasattr(tokenizer, "_switch_to_input_mode")


def tokenize(
    tokenizer: Any,
    most: int,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
    prompt: str = "",
    *,
    types_are_zero: bool,
) -> Prepared:
    """As ModelTokenizer, by calling the tokenizer of transformers. `items` is a dictionary of lists."""
    if not texts:
        return Prepared(np.empty(0, np.int32), np.empty(0, np.bool_), {"input_ids": []}, np.empty(0, np.int32))
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
            cut[row] = scaled(tokens, len(firsts[row]), len(wholes[row])) - kept
        else:  # for pairs, overflow comes in every combination of their sides
            second = scaled(count(seconds[row]), len(seconds[row]), len(wholes[row]))
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


def _tokens_in(tokenizer: Any, text: str) -> int:
    """Tokens of the whole text, without special tokens."""
    return len(tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])
