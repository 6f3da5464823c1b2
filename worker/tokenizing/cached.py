"""A tokenizer that looks up the words of its texts in a cache."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer

from .flat import FlatTokens, Int32, Int64, Side
from .long_texts import shorten
from .supported import WordByWord
from .template import UInt8
from .texts import Texts
from .truncation import kept_of_one, kept_of_pairs
from .word_cache import WordCache
from .word_pieces import WordPieces


class CachedTokenizer:
    """As LibraryTokenizer, for a tokenizer whose properties `supported.read` returned. Not thread-safe."""

    def __init__(self, tokenizer: Tokenizer, known: WordByWord, limit: int, side: str = "right") -> None:
        patterns = [token.encode() for token in known.added]
        self.cache = WordCache(WordPieces(tokenizer).ids_of, patterns, lowercase=known.lowercase)
        self._known, self._limit, self._side = known, limit, side

    def encode(self, texts: Texts, seconds: Texts | None = None, prompt: str = "") -> FlatTokens:
        """The tokens of texts with the prompt before them, or of pairs of them and `seconds`."""
        firsts = texts.after(prompt)
        return self._encode_texts(firsts) if seconds is None else self._encode_pairs(firsts, seconds)

    def _encode_texts(self, texts: Texts) -> FlatTokens:
        template = self._known.single
        shortened = shorten(texts, np.full(len(texts), self._limit, np.int64), self._side, self._count)
        ids, bounds = self.cache.tokenize(shortened.texts)
        counts = np.diff(bounds)
        kept = kept_of_one(counts, self._limit - template.special)
        filled = template.fill([self._kept(ids, bounds, kept)])
        return _flat_tokens(filled, counts, shortened.whole_counts(counts), kept)

    def _encode_pairs(self, firsts: Texts, seconds: Texts) -> FlatTokens:
        template = self._known.pair
        # A shortened second text must stay longer than its first, since the longer one is truncated.
        shortened = shorten(seconds, self._limit + firsts.sizes(), self._side, self._count)
        ids, bounds = self.cache.tokenize(firsts)
        other_ids, other_bounds = self.cache.tokenize(shortened.texts)
        counts, others = np.diff(bounds), np.diff(other_bounds)
        kept, kept_others = kept_of_pairs(counts, others, self._limit - template.special)
        sides = [self._kept(ids, bounds, kept), self._kept(other_ids, other_bounds, kept_others)]
        whole = counts + shortened.whole_counts(others)
        return _flat_tokens(template.fill(sides), counts + others, whole, kept + kept_others)

    def _kept(self, ids: Int32, bounds: Int64, kept: Int64) -> Side:
        return Side(ids, bounds[1:] - kept if self._side == "left" else bounds[:-1], kept)

    def _count(self, text: str) -> int:
        return len(self.cache.tokenize(Texts.of([text]))[0])


def _flat_tokens(filled: tuple[Int32, Int32, UInt8 | None], counts: Int64, whole: Int64, kept: Int64) -> FlatTokens:
    """`counts`, `whole` and `kept` (n): tokens that were looked up, of the whole texts, and after truncation."""
    ids, lengths, types = filled
    truncated = counts > kept
    cut = np.where(truncated, whole - kept, 0).clip(max=np.iinfo(np.int32).max).astype(np.int32)
    return FlatTokens(ids, lengths, truncated, cut, types)
