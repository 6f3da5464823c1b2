"""Cutting a batch into micro-batches by tokens: sorted by length, so that a micro-batch holds little padding."""

from __future__ import annotations

import numpy as np

from .encoders.base import IntArray


def longest_first(lengths: IntArray) -> IntArray:
    """Row numbers by descending length, ties in order."""
    return np.argsort(-lengths, kind="stable").astype(np.int32)


def fitting(lengths: IntArray, order: IntArray, start: int, budget: int) -> int:
    """How many rows of `order`, from `start`, make a micro-batch of at most `budget` tokens, padding included.

    All are padded to the first, which is the longest. One row always fits: there is no smaller piece.
    """
    longest = max(int(lengths[order[start]]), 1)
    return max(1, min(budget // longest, len(order) - start))
