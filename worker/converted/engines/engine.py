"""The interface of an engine, which computes a conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ....protocol.wire.arrays import Array


class Started(Protocol):
    """A batch that is being computed."""

    def result(self) -> list[Array]:
        """The outputs that `graph.py` names, once they are there. Raises OutOfMemory. Call it once."""
        ...


class Engine(Protocol):
    """A graph on this processor."""

    dtype: str
    """The dtype of the computation, as the engine reports it."""
    has_bfloat16: bool
    """Whether it could compute in bfloat16 instead."""
    streams: int
    """How many batches it computes at a time."""

    def start(self, inputs: Sequence[Array]) -> Started:
        """Begin to compute a batch: padded token ids, mask, and token types if there are any. With as many batches open as
        there are streams, and one more, the next one waits. Raises OutOfMemory."""
        ...
