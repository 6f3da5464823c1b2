"""Any fast tokenizer, by the library itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .flat import FlatTokens, Int64
from .long_texts import Shortened, shorten
from .texts import Texts


def copy_of(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer of one's own that neither truncates nor pads. ValueError if it would be another: tokenizer.json holds one
    word for each id. What has parts in Python cannot be copied either."""
    apart: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
    if apart.get_vocab_size() != tokenizer.get_vocab_size():
        raise ValueError("two words of the tokenizer have the same id")
    apart.encode_special_tokens = tokenizer.encode_special_tokens
    apart.no_truncation()
    apart.no_padding()
    return apart


class LibraryTokenizer:
    """Encodes batches by `encode_batch_fast`, to at most `limit` tokens a row. `side` is where it truncates: `left` or `right`.

    The library has threads of its own: RAYON_NUM_THREADS, and none if TOKENIZERS_PARALLELISM is false. Not thread-safe.
    """

    def __init__(self, tokenizer: Tokenizer, limit: int, side: str = "right") -> None:
        self._tokenizer = copy_of(tokenizer)
        self._limit, self._side = limit, side

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
        self._tokenizer.enable_truncation(self._limit, direction=self._side)
        encoded = self._tokenizer.encode_batch_fast(inputs)
        self._tokenizer.no_truncation()
        ids = [one.ids for one in encoded]
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        flat = np.fromiter(itertools.chain(*ids), np.int32, int(lengths.sum()))
        types = np.fromiter(itertools.chain(*(one.type_ids for one in encoded)), np.uint8, len(flat))
        truncated = np.array([bool(one.overflowing) for one in encoded], np.bool_)
        kept = lengths.astype(np.int64) - self._tokenizer.num_special_tokens_to_add(seconds is not None)
        cut = np.zeros(len(texts), np.int64)
        rows = np.flatnonzero(truncated)
        if len(rows):
            cut[rows] = self._whole_counts(inputs, rows, seconds is not None, shortened) - kept[rows]
        cut = cut.clip(max=np.iinfo(np.int32).max).astype(np.int32)
        return FlatTokens(flat, lengths, truncated, cut, types if types.any() else None)

    def _whole_counts(self, inputs: list[Any], rows: Int64, pairs: bool, shortened: Shortened) -> Int64:
        """The tokens of these rows before truncation, without special ones."""
        chosen = [inputs[row] for row in rows.tolist()]
        counts = np.zeros(len(inputs), np.int64)
        counts[rows] = self._counts([one[1] if pairs else one for one in chosen])
        whole = shortened.whole_counts(counts)[rows]
        return whole + self._counts([one[0] for one in chosen]) if pairs else whole

    def _counts(self, texts: Sequence[str]) -> Int64:
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return np.array([len(one) for one in encoded], np.int64)

    def _count(self, text: str) -> int:
        return int(self._counts([text])[0])
