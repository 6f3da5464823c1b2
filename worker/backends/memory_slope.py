"""Estimate how many tokens fit into a device's free memory, from the memory that two micro-batches took."""

from __future__ import annotations

from dataclasses import dataclass

ROOM = 0.8
"""Share of the free memory that a micro-batch may take."""


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """The tokens of a micro-batch, and the most bytes that it took in addition to the memory in use before."""

    tokens: int
    peak: int


def fitting_tokens(small: MemoryPoint, large: MemoryPoint, free: int) -> int | None:
    """Tokens of the largest micro-batch for `free` bytes, if memory grows with the tokens as between these two. None if it does
    not grow."""
    if large.tokens <= small.tokens or large.peak <= small.peak:
        return None
    a_token = (large.peak - small.peak) / (large.tokens - small.tokens)
    fixed = max(0.0, large.peak - a_token * large.tokens)
    return max(0, int((ROOM * free - fixed) / a_token))
