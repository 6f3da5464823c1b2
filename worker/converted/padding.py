"""Tokenized texts as the input of a graph: padded to the longest, at the end, so that the positions are those of the text
alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...protocol.wire.arrays import Array
from ..encoders.base import IntArray
from .record import TokenSettings


def padded(items: Mapping[str, Sequence[Sequence[int]]], rows: IntArray, settings: TokenSettings) -> list[Array]:
    """Token ids and mask (n, longest), and token types where the graph takes them. int64, as the graph's."""
    chosen = [items["input_ids"][row] for row in rows.tolist()]
    lengths = np.array([len(one) for one in chosen], np.int64)
    longest = int(lengths.max(initial=1))
    mask = np.arange(longest) < lengths[:, None]
    found = [_filled(chosen, mask, settings.pad), mask.astype(np.int64)]
    if settings.types:
        found.append(_filled([items["token_type_ids"][row] for row in rows.tolist()], mask, 0))
    return found


def _filled(lists: Sequence[Sequence[int]], mask: Array, otherwise: int) -> Array:
    whole = np.full(mask.shape, otherwise, np.int64)
    whole[mask] = np.fromiter((one for some in lists for one in some), np.int64, int(mask.sum()))
    return whole
