"""Cut a batch into micro-batches by tokens. Rows are sorted by length, so that there is little padding."""

from __future__ import annotations

import numpy as np

from .encoders.base import IntArray


def longest_first(lengths: IntArray) -> IntArray:
    """Row numbers by descending length, ties in order."""
    return np.argsort(-lengths, kind="stable").astype(np.int32)


def fitting(lengths: IntArray, order: IntArray, start: int, budget: int, *, pads: bool) -> int:
    """The number of rows of `order`, from `start`, that fit in `budget` tokens; at least 1.

    With padding, all rows are as long as the first, which is the longest.
    """
    longest = max(int(lengths[order[start]]), 1)
    if pads:
        return max(1, min(budget // longest, len(order) - start))
    tokens = np.cumsum(lengths[order[start : start + max(budget, 1)]], dtype=np.int64)
    return max(1, int(np.searchsorted(tokens, budget, side="right")))
