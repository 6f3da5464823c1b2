"""Cut a batch into micro-batches by tokens. Rows are sorted by length, so that there is little padding."""

from __future__ import annotations

import numpy as np

from .encoders.base import IntArray


def longest_first(lengths: IntArray) -> IntArray:
    """Row numbers by descending length, ties in order."""
    return np.argsort(-lengths, kind="stable").astype(np.int32)


def fitting(lengths: IntArray, order: IntArray, start: int, budget: int) -> int:
    """The number of rows of `order`, from `start`, that fit in `budget` tokens with padding; at least 1.

    All rows are padded to the first, which is the longest.
    """
    longest = max(int(lengths[order[start]]), 1)
    return max(1, min(budget // longest, len(order) - start))
