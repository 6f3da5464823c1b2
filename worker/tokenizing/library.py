"""Any fast tokenizer, by the library itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .flat import FlatTokens, Int64
from .long_texts import Shortened, shorten
from .texts import Texts

FEWEST = 16
"""Texts that are worth a thread."""


def copy_of(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer of one's own that neither truncates nor pads."""
    apart: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
    apart.encode_special_tokens = tokenizer.encode_special_tokens
    apart.no_truncation()
    apart.no_padding()
    return apart


class LibraryTokenizer:
    """Encodes batches by `encode_batch_fast`, in at most `threads` threads, to at most `limit` tokens a row. `side` is where it
    truncates: `left` or `right`."""

    def __init__(self, tokenizer: Tokenizer, limit: int, side: str = "right", threads: int = 1) -> None:
        self._whole, self._limited = copy_of(tokenizer), copy_of(tokenizer)
        self._limited.enable_truncation(limit, direction=side)
        self._limit, self._side = limit, side
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "tokenize") if threads > 1 else None

    def encode(self, texts: Texts, seconds: Texts | None = None, prompt: str = "") -> FlatTokens:
        """The tokens of texts with the prompt before them, or of pairs of them and `seconds`."""
        firsts = texts.after(prompt)
        most = np.full(len(texts), self._limit, np.int64)
        if seconds is None:
            shortened = shorten(firsts, most, self._side, self._count)
            inputs: list[Any] = shortened.texts[:]
        else:
            # A shortened second text must stay longer than its first, since the longer one is truncated.
            shortened = shorten(seconds, most + firsts.sizes(), self._side, self._count)
            inputs = list(zip(firsts[:], shortened.texts[:], strict=True))
        encoded = self._encode(self._limited, inputs, special=True)
        ids = [one.ids for one in encoded]
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        flat = np.fromiter(itertools.chain(*ids), np.int32, int(lengths.sum()))
        types = np.fromiter(itertools.chain(*(one.type_ids for one in encoded)), np.uint8, len(flat))
        truncated = np.array([bool(one.overflowing) for one in encoded], np.bool_)
        kept = lengths.astype(np.int64) - self._whole.num_special_tokens_to_add(seconds is not None)
        cut = np.zeros(len(texts), np.int64)
        rows = np.flatnonzero(truncated)
        if len(rows):
            cut[rows] = self._whole_counts(inputs, rows, seconds is not None, shortened) - kept[rows]
        cut = cut.clip(max=np.iinfo(np.int32).max).astype(np.int32)
        return FlatTokens(flat, lengths, truncated, cut, types if types.any() else None)

    def ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of whole texts, without special tokens."""
        return [one.ids for one in self._encode(self._whole, texts, special=False)]

    def _whole_counts(self, inputs: list[Any], rows: Int64, pairs: bool, shortened: Shortened) -> Int64:
        """The tokens of these rows before truncation, without special ones."""
        chosen = [inputs[row] for row in rows.tolist()]
        counts = np.zeros(len(inputs), np.int64)
        counts[rows] = [len(ids) for ids in self.ids_of([one[1] if pairs else one for one in chosen])]
        whole = shortened.whole_counts(counts)[rows]
        if pairs:
            whole += np.array([len(ids) for ids in self.ids_of([one[0] for one in chosen])], np.int64)
        return whole

    def _count(self, text: str) -> int:
        return len(self._whole.encode_batch_fast([text], add_special_tokens=False)[0])

    def _encode(self, tokenizer: Tokenizer, inputs: Sequence[Any], *, special: bool) -> list[Any]:
        if self._pool is None or len(inputs) < 2 * FEWEST:
            return tokenizer.encode_batch_fast(inputs, add_special_tokens=special)
        size = max(FEWEST, -(-len(inputs) // self._threads))
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        done = self._pool.map(lambda part: tokenizer.encode_batch_fast(part, add_special_tokens=special), parts)
        return [one for part in done for one in part]
