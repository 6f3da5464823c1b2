"""Words of UTF-8 texts, found in whole blobs at once.

A word here is a longest run of bytes that are neither an ASCII space nor ASCII punctuation; each ASCII punctuation mark is a
word of its own. A tokenizer of BERT's kind treats such words one by one: its normalizer looks at single characters, the
decomposition of accents never goes beyond an ASCII character, and its splitter cuts at least at these places.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .added_tokens import Piece
from .flat import Int64
from .texts import Offsets
from .word_table import UInt64

SPACE, WORD, MARK = 0, 1, 2
_SPACES = b" \t\n\r"
"""What every such tokenizer takes for a space. It removes other control characters, or not: these stay in their word."""
CLASSES = bytes(SPACE if byte in _SPACES else MARK if chr(byte) in string.punctuation else WORD for byte in range(256))
LOWERED = bytes(range(256)).lower()
UNCHANGED = bytes(range(256))
KEY_BYTES = 16
"""Words of at most this length are keys of a WordTable."""
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)


@dataclass(frozen=True, slots=True)
class Words:
    """The W words of a blob, in order. A piece that may have an added token counts as one word."""

    starts: Int64
    stops: Int64
    pieces: Int64
    """Which words are such pieces."""


def split(classes: bytes, offsets: Offsets, pieces: list[Piece]) -> Words:
    """The words of texts that end at `offsets[1:]`; no word goes beyond its text. `classes` are those of their bytes."""
    kinds = np.frombuffer(classes, np.uint8)
    size = len(kinds)
    before, after = np.zeros(size + 1, np.uint8), np.zeros(size + 1, np.uint8)
    np.bitwise_and(kinds, WORD, out=before[1:])
    after[:size] = before[1:]
    before[offsets] = 0
    after[offsets] = 0
    # A byte begins a word unless it is a space, or goes on with the word of the byte before it.
    begins, ends = kinds > before[:size], kinds > after[1:]
    for piece in pieces:
        begins[piece.start : piece.stop] = ends[piece.start : piece.stop] = False
        begins[piece.start] = ends[piece.stop - 1] = True
    starts, stops = np.flatnonzero(begins), np.flatnonzero(ends)
    stops += 1
    return Words(starts, stops, np.searchsorted(starts, [piece.start for piece in pieces]))


def keys(padded: bytes, words: Words) -> tuple[UInt64, UInt64, Int64]:
    """Words of up to KEY_BYTES as two uint64, filled up with zeros; the others have the key 0, and are returned as indices.

    `padded` has the blob and then KEY_BYTES zeros.
    """
    eights: UInt64 = np.ndarray(
        (len(padded) - 7,), "<u8", padded, strides=(1,)
    )  # the eight bytes from each position on
    sizes = words.stops - words.starts
    low = eights.take(words.starts)
    low &= _MASKS.take(np.minimum(sizes, 8))
    high = np.zeros(len(low), np.uint64)
    more = np.flatnonzero(sizes > 8)
    if len(more):
        high[more] = eights.take(words.starts[more] + 8) & _MASKS.take(np.minimum(sizes[more] - 8, 8))
    other = more[sizes[more] > KEY_BYTES]
    if len(words.pieces):
        other = np.union1d(other, words.pieces)
    if padded.find(0, 0, len(padded) - KEY_BYTES) >= 0:
        other = np.union1d(other, _words_with_zeros(padded, words))
    low[other] = 0
    high[other] = 0
    return low, high, other


def _words_with_zeros(padded: bytes, words: Words) -> npt.NDArray[np.int64]:
    """A key cannot tell a zero at a word's end from what it is filled up with."""
    zeros = np.flatnonzero(np.frombuffer(padded, np.uint8, len(padded) - KEY_BYTES) == 0)
    return np.unique(np.searchsorted(words.starts, zeros, side="right") - 1)
