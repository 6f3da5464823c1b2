"""Where a text may have an added token, which a tokenizer looks for before it splits the text into words."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text between two spaces (or the text's ends) that may have an added token: `start` to `stop` in bytes."""

    start: int
    stop: int


def pieces(patterns: Sequence[bytes], lowered: bytes, classes: bytes, ends: Sequence[int]) -> list[Piece]:
    """The pieces of a blob in which one of `patterns` occurs, in order; a few more, where one is made of two texts.

    `classes` has a zero for each byte that is a space. `ends` are the offsets at which the texts of the blob end.
    """
    found: dict[int, int] = {}
    for pattern in patterns:
        for piece in _pieces_of(pattern, lowered, classes, ends):
            found[piece.start] = piece.stop
    return [Piece(start, found[start]) for start in sorted(found)]


def _pieces_of(pattern: bytes, lowered: bytes, classes: bytes, ends: Sequence[int]) -> Iterator[Piece]:
    at = lowered.find(pattern)
    while at >= 0:
        row = bisect.bisect_right(ends, at)
        text_start, text_stop = (ends[row - 1] if row else 0), ends[row]
        start = classes.rfind(0, text_start, at) + 1 or text_start
        stop = classes.find(0, at, text_stop)
        stop = stop if stop >= 0 else text_stop
        yield Piece(start, stop)
        at = lowered.find(pattern, stop)
