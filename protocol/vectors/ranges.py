"""The int8 ranges of a dense vector. Separate from `storage.py`, so that reading the record of a pass does not load Arrow."""

from __future__ import annotations

import msgspec


class Ranges(msgspec.Struct, frozen=True):
    """The range of int8 in each dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]
