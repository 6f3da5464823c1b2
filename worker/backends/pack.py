"""A pack: the tokens of some texts, one after the other, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenizing.flat import FlatTokens, Int32, ranges

INPUTS = ("input_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Pack:
    """n texts with T tokens together, special ones included."""

    ids: Int32
    """Token ids (T)."""
    types: Int32 | None
    """Token types (T), where the model has any."""
    lengths: Int32
    """Tokens of each text (n), at least one."""

    @property
    def ends(self) -> Int32:
        """Where each text begins, and the end of the last one (n + 1)."""
        ends = np.zeros(len(self.lengths) + 1, np.int32)
        np.cumsum(self.lengths, out=ends[1:])
        return ends

    @property
    def positions(self) -> Int32:
        """The position (T) of each token in its text, from 0."""
        return np.arange(len(self.ids), dtype=np.int32) - np.repeat(self.ends[:-1], self.lengths)


def pack_rows(tokens: FlatTokens, rows: Int32) -> Pack:
    """These rows of a tokenized batch."""
    lengths = tokens.lengths[rows]
    places = ranges(tokens.starts()[rows], lengths.astype(np.int64))
    types = tokens.types[places].astype(np.int32) if tokens.types is not None else None
    return Pack(tokens.ids[places], types, lengths)


def pack_lists(items: Mapping[str, Sequence[Sequence[int]]], rows: Int32) -> Pack:
    """As `pack_rows`, of `input_ids` and perhaps `token_type_ids` in lists."""
    ids, types = ([items[name][row] for row in rows.tolist()] if name in items else None for name in INPUTS)
    assert ids is not None, "every tokenizer returns ids"
    lengths = np.array([len(one) for one in ids], np.int32)
    return Pack(_joined(ids), _joined(types) if types is not None else None, lengths)


def _joined(lists: Sequence[Sequence[int]]) -> Int32:
    return np.fromiter((one for some in lists for one in some), np.int32, sum(map(len, lists)))
