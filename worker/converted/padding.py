"""Tokenized texts as the input of a graph: padded to the longest, at the end, so that the positions are those of the text
alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...protocol.wire.arrays import Array
from ..encoders.base import IntArray
from ..tokenizing.flat import FlatTokens, pad
from .record import TokenSettings

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Of a graph, in order. Not every one takes token types."""


def padded(tokens: FlatTokens, rows: IntArray, settings: TokenSettings) -> list[Array]:
    """Token ids and mask (n, longest), and token types where the graph takes them. int64, as the graph's."""
    types = tokens.types if tokens.types is not None else np.zeros(len(tokens.ids), np.uint8)
    arrays = pad(replace(tokens, types=types), rows, settings.pad, 0, left=False)
    return [arrays[name] for name in (INPUTS if settings.types else INPUTS[:2])]
