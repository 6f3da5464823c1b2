"""The token ids of single words, by the library."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from .flat import Int32, Int64
from .library import copy_of


class WordPieces:
    """Asks a tokenizer of BERT's kind for words, or for short texts without a space at an end.

    Words of ASCII letters and digits are tokenized as one text, which takes a third of the time. Where a word begins there is
    seen from its first piece: only the others have the prefix of continuing pieces.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = copy_of(tokenizer)
        self._continues = _continuing(self._tokenizer)

    def ids_of(self, words: Sequence[bytes]) -> tuple[Int32, Int64, Int64]:
        """The ids of all words, and for each word where its ids begin and how many they are.

        Raises what the library raises, and UnicodeDecodeError for bytes that are not UTF-8.
        """
        plain = np.fromiter(map(bytes.isalnum, words), np.bool_, len(words))  # true for ASCII letters and digits only
        chosen = [word for word in words if word.isalnum()]
        joined = self._joined(chosen)
        if joined is None:
            plain[:] = False
            joined = np.empty(0, np.int32), np.empty(0, np.int64)
        ids, counts = self._single([word for word, found in zip(words, plain.tolist(), strict=True) if not found])
        all_counts = np.empty(len(words), np.int64)
        all_counts[plain], all_counts[~plain] = joined[1], counts
        starts = np.empty(len(words), np.int64)
        starts[plain] = np.cumsum(joined[1]) - joined[1]
        starts[~plain] = len(joined[0]) + np.cumsum(counts) - counts
        return np.concatenate([joined[0], ids]), starts, all_counts

    def _joined(self, words: list[bytes]) -> tuple[Int32, Int64] | None:
        """The ids of words of ASCII letters and digits, and how many each has. None if they cannot be told apart."""
        if not words:
            return None
        (encoded,) = self._tokenizer.encode_batch_fast([b" ".join(words).decode()], add_special_tokens=False)
        ids = np.array(encoded.ids, np.int32)
        begins = np.flatnonzero(~self._continues[ids])
        if len(begins) != len(words):
            return None
        return ids, np.diff(begins, append=len(ids))

    def _single(self, words: list[bytes]) -> tuple[Int32, Int64]:
        encoded = self._tokenizer.encode_batch_fast([word.decode() for word in words], add_special_tokens=False)
        found = [one.ids for one in encoded]
        counts = np.fromiter(map(len, found), np.int64, len(found))
        return np.fromiter(itertools.chain(*found), np.int32, int(counts.sum())), counts


def _continuing(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which ids have the prefix of pieces that continue a word. Those always have it; that no other piece has it is seen from
    the number of words that begin."""
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    found = np.zeros(max(vocabulary.values()) + 1, np.bool_)
    found[[number for token, number in vocabulary.items() if token.startswith(model["continuing_subword_prefix"])]] = (
        True
    )
    return found
