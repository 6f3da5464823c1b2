"""The tokens of some texts one after the other, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Pack:
    """n texts with T tokens together, special ones included."""

    ids: IntArray
    """Token ids (T)."""
    types: IntArray | None
    """Token types (T), where the model has any."""
    lengths: IntArray
    """Tokens of each text (n), at least one."""

    @property
    def ends(self) -> IntArray:
        """Where each text begins, and the end of the last one (n + 1)."""
        ends = np.zeros(len(self.lengths) + 1, np.int32)
        np.cumsum(self.lengths, out=ends[1:])
        return ends

    @property
    def positions(self) -> IntArray:
        """The position (T) of each token in its text, from 0."""
        return np.arange(len(self.ids), dtype=np.int32) - np.repeat(self.ends[:-1], self.lengths)


def pack_rows(items: Mapping[str, Sequence[Sequence[int]]], rows: IntArray) -> Pack:
    """These rows of a tokenized batch: `input_ids`, and `token_type_ids` if they are there."""
    chosen = rows.tolist()
    ids = [items["input_ids"][row] for row in chosen]
    types = [items["token_type_ids"][row] for row in chosen] if "token_type_ids" in items else None
    lengths = np.array([len(one) for one in ids], np.int32)
    return Pack(_joined(ids), _joined(types) if types is not None else None, lengths)


def _joined(lists: Sequence[Sequence[int]]) -> IntArray:
    total = sum(map(len, lists))
    return np.fromiter((one for some in lists for one in some), np.int32, total)
