"""The interface of what computes a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ....protocol.wire.arrays import Array


class Engine(Protocol):
    """A graph on this processor."""

    dtype: str
    """What it computes in, as read back."""
    has_bfloat16: bool
    """Whether it could compute in that instead."""
    streams: int
    """How many batches it computes beside each other."""

    def compute(self, batches: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """For each batch of padded token ids, mask, and token types if there are any, the outputs that `graph.py` names.
        Raises OutOfMemory."""
        ...
