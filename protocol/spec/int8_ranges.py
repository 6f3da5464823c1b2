"""The int8 ranges of a dense vector: those of a segment, or of all shards of a source."""

from __future__ import annotations

import msgspec


class Int8Ranges(msgspec.Struct, frozen=True):
    """The range of int8 in each dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]
