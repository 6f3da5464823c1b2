"""The interface of an engine, which computes a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ....protocol.wire.arrays import Array


class Engine(Protocol):
    """A graph on this processor."""

    dtype: str
    """The dtype of the computation, as the engine reports it."""
    has_bfloat16: bool
    """Whether it could compute in bfloat16 instead."""
    streams: int
    """How many batches it computes at a time."""

    def compute(self, batches: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """For each batch of padded token ids, mask, and token types if there are any, the outputs that `graph.py` names.
        Raises OutOfMemory."""
        ...
