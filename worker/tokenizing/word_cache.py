"""The token ids of texts, looked up word by word; the library is asked once for each new word."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from . import added_tokens, words
from .flat import Int32, Int64, ranges
from .texts import Texts
from .word_table import ABSENT, WordTable
from .words import Words

MAX_WORDS = 1 << 20
MAX_BYTES = 256 << 20
BLOCK = 1 << 18
"""Bytes of text at a time, so that the scratch arrays stay in the processor's cache."""
_BYTES_A_WORD = 120
"""Of a word in a dictionary, besides its own bytes."""
_COUNT = (1 << 32) - 1

AskLibrary = Callable[[Sequence[bytes]], tuple[Int32, Int64, Int64]]
"""The token ids of all words, and for each word where its ids begin and how many they are."""


class WordCache:
    """For tokenizers that treat words one by one (`supported.py`). Not thread-safe.

    `added` are the added tokens, as bytes; `lowercase` says that the tokenizer ignores case. Begins anew when it has more than
    `max_words` or takes more than `max_bytes`; a single block of texts may exceed both.
    """

    def __init__(
        self,
        ask: AskLibrary,
        added: Sequence[bytes],
        *,
        lowercase: bool,
        max_words: int = MAX_WORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._ask = ask
        self._case = words.LOWERED if lowercase else words.UNCHANGED
        self._patterns = [token.translate(self._case) for token in added]
        self._max_words, self._max_bytes = max_words, max_bytes
        self._clear()

    @property
    def count(self) -> int:
        """Words that it remembers."""
        return self._table.count + len(self._others)

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return self._table.n_bytes + self._ids.nbytes + self._others_bytes

    def tokenize(self, texts: Texts) -> tuple[Int32, Int64]:
        """The ids of all texts, one after the other, and the n + 1 offsets between them. Raises what the library raises, and
        UnicodeDecodeError for bytes that are not UTF-8."""
        found: list[Int32] = []
        bounds = np.zeros(len(texts) + 1, np.int64)
        for first, last in itertools.pairwise(_blocks(texts)):
            ids, ends = self._tokenize_block(texts, first, last)
            bounds[first + 1 : last + 1] = bounds[first] + ends
            found.append(ids)
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.int32), *found]), bounds

    def _clear(self) -> None:
        self._table = WordTable()
        self._others: dict[bytes, int] = {}
        """Longer words, and pieces with a space before them; the value is that of a table."""
        self._others_bytes = 0
        self._ids = np.empty(1 << 16, np.int32)
        self._used = 0

    def _tokenize_block(self, texts: Texts, first: int, last: int) -> tuple[Int32, Int64]:
        """The ids of the texts `first` to `last`, and where each text ends in them."""
        if self.count > self._max_words or self.n_bytes > self._max_bytes:
            self._clear()
        offsets = texts.offsets[first : last + 1]
        raw = bytes(texts.blob[offsets[0] : offsets[-1]])
        offsets = offsets - offsets[0]
        lowered, classes = raw.translate(self._case), raw.translate(words.CLASSES)
        pieces = added_tokens.pieces(self._patterns, lowered, classes, offsets[1:].tolist())
        found = words.split(classes, offsets, pieces)
        values = self._values(raw, lowered + bytes(words.KEY_BYTES), found)
        counts = values & _COUNT
        ids = self._ids.take(ranges(values >> 32, counts))
        ends = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=ends[1:])
        return ids, ends.take(np.searchsorted(found.starts, offsets[1:]))

    def _values(self, raw: bytes, padded: bytes, found: Words) -> Int64:
        """The value of each word: where its ids begin, times 2^32, plus how many they are."""
        low, high, others = words.keys(padded, found)
        values = self._table.find(low, high)
        missing = np.flatnonzero(values == ABSENT)
        if not len(missing):
            return values
        missing = missing[low[missing] != 0]
        names = self._names(raw, padded, found, others)
        unknown = list(dict.fromkeys(name for name in names if name not in self._others))
        if len(missing) or unknown:
            try:
                slots, distinct = self._table.enter(low[missing], high[missing])
                first = missing[distinct]
                spans = zip(found.starts[first].tolist(), found.stops[first].tolist(), strict=True)
                learnt = self._learn([*(padded[start:stop] for start, stop in spans), *unknown])
            except BaseException:
                self._clear()  # the table has words without a value
                raise
            self._table.fill(slots[distinct], learnt[: len(distinct)])
            self._others.update(zip(unknown, learnt[len(distinct) :].tolist(), strict=True))
            self._others_bytes += sum(map(len, unknown)) + _BYTES_A_WORD * len(unknown)
            values[missing] = self._table.values(slots)
        values[others] = [self._others[name] for name in names]
        return values

    def _names(self, raw: bytes, padded: bytes, found: Words, others: Int64) -> list[bytes]:
        """What words without a key are remembered by. A piece keeps its case, and has a space before it: it must not be
        taken for a word."""
        pieces = set(found.pieces.tolist())
        spans = zip(others.tolist(), found.starts[others].tolist(), found.stops[others].tolist(), strict=True)
        return [b" " + raw[start:stop] if word in pieces else padded[start:stop] for word, start, stop in spans]

    def _learn(self, asked: Sequence[bytes]) -> Int64:
        """Ask the library for new words, and store their ids. Returns their values."""
        ids, starts, counts = self._ask(asked)
        while self._used + len(ids) > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
        self._ids[self._used : self._used + len(ids)] = ids
        starts = starts + self._used
        self._used += len(ids)
        return (starts << 32) | counts


def _blocks(texts: Texts) -> list[int]:
    """Row numbers at which blocks of about BLOCK bytes begin, and the number of rows."""
    edges = np.arange(BLOCK, int(texts.offsets[-1]), BLOCK)
    rows = np.searchsorted(texts.offsets[:-1], edges, side="right") - 1
    return sorted({0, *rows.tolist(), len(texts)})
