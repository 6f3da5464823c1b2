"""The corpus's average length in BM25's own terms, from an even sample of its chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..protocol.bm25_words import bounded_words
from ..protocol.chunk_columns import read_chunk_columns
from ..protocol.layout import RunLayout, segments_in

SEGMENTS, ROWS = 64, 64
"""At most so many segments, evenly spaced, and as many rows of each: 4,096 texts take a fifth of a second."""
CHARS = 16 << 20
"""Of all texts together: of longer ones the beginning counts for the whole, so that the caller never waits for long."""
_K = 1.2


def fit_average_length(layout: RunLayout) -> float:
    """Mean number of terms of a chunk, stop words left out; at least 1. Call when the intake is done."""
    import qdrant_edge

    model: Any = qdrant_edge.Bm25(qdrant_edge.Bm25Config(k=_K, b=0.0))
    lengths = [_length(model, text, most) for text, most in _sample(layout)]
    return round(max(1.0, float(np.mean(lengths))), 2) if lengths else 1.0


def _length(model: Any, text: str, most: int) -> float:
    """Terms of the text, by its first `most` characters."""
    terms = _terms(model.embed_document(bounded_words(text[:most])))
    return terms * max(1.0, len(text) / most)


def _terms(vector: Any) -> float:
    """With b = 0 a weight is tf·(k+1) / (tf+k), whatever the length; solved for tf and summed."""
    weights = np.asarray(vector.values, np.float64)
    return float(np.rint(_K * weights / (_K + 1 - weights)).sum())


def _sample(layout: RunLayout) -> Iterator[tuple[str, int]]:
    """Texts, and how many characters of each there is time for."""
    segments = _evenly(segments_in(layout.chunks), SEGMENTS)
    for segment in segments:
        column: Any = read_chunk_columns(layout, segment, ("text",)).column("text")
        rows = _evenly(list(range(len(column))), ROWS)
        for row in rows:
            yield column[row].as_py(), CHARS // (len(segments) * len(rows))


def _evenly(items: list[int], most: int) -> list[int]:
    if len(items) <= most:
        return items
    return [items[place * len(items) // most] for place in range(most)]
