"""The int8 ranges of a dense vector. Apart from `storage.py`, so that a `pass.json` is read without loading Arrow."""

from __future__ import annotations

import msgspec


class Ranges(msgspec.Struct, frozen=True):
    """The range of int8 in each dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]
