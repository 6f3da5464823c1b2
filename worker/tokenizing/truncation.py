"""How many tokens of each side a tokenizer keeps: the library's `longest_first`, as arithmetic on whole batches."""

from __future__ import annotations

import numpy as np

from .flat import Int64


def kept_of_one(counts: Int64, room: int) -> Int64:
    """The tokens kept of single texts with `counts` tokens (n). A negative room truncates nothing: so does the library with
    a limit that is less than its special tokens."""
    return counts if room < 0 else np.minimum(counts, room)


def kept_of_pairs(firsts: Int64, seconds: Int64, room: int) -> tuple[Int64, Int64]:
    """The tokens kept of both sides of pairs (n): the longer one is cut to the length of the shorter one, then both."""
    if room < 0:
        return firsts, seconds
    shorter, longer = np.minimum(firsts, seconds), np.maximum(firsts, seconds)
    over = shorter + longer > room
    longer = np.maximum(shorter, room - shorter)
    halved = shorter + longer > room
    shorter = np.where(halved, room // 2, shorter)
    longer = np.where(halved, room - room // 2, longer)
    swapped = firsts > seconds
    return (
        np.where(over, np.where(swapped, longer, shorter), firsts),
        np.where(over, np.where(swapped, shorter, longer), seconds),
    )
