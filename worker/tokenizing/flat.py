"""The tokens of a batch in flat arrays, and how they are laid out there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FlatTokens:
    """The token ids of n texts or pairs, one after the other: T ids in all."""

    ids: Int32
    """(T) Special tokens included, after truncation."""
    lengths: Int32
    """(n) Their sum is T."""
    truncated: npt.NDArray[np.bool_]
    """(n)"""
    cut: Int32
    """(n) Tokens that truncation removed: 0 for an uncut text, estimated for a very long one."""
    types: npt.NDArray[np.uint8] | None = None
    """(T) Token types; None if all of them are 0."""

    def starts(self) -> Int64:
        """Where each row begins in `ids` (n)."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def rows(self) -> list[list[int]]:
        """The ids of each row."""
        return [ids.tolist() for ids in np.split(self.ids, self.starts()[1:])] if len(self.lengths) else []


@dataclass(frozen=True, slots=True)
class Side:
    """One of the sequences of a row: row i has `lengths[i]` of the `ids`, from `starts[i]` on."""

    ids: Int32
    starts: Int64
    lengths: Int64


def ranges(starts: Int64, lengths: Int64) -> Int64:
    """The numbers of all ranges, one after the other: `lengths[i]` numbers from `starts[i]` on."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    found = np.repeat(starts - (ends - lengths), lengths)
    found += np.arange(total)
    return found


def pad(tokens: FlatTokens, rows: Int32, pad_id: int, pad_type: int, *, left: bool) -> dict[str, Int64]:
    """The model inputs of these rows as int64 arrays (rows, longest), padded at the right, or at the left."""
    lengths = tokens.lengths[rows].astype(np.int64)
    width = int(lengths.max(initial=0))
    begins = width - lengths if left else np.zeros_like(lengths)
    columns = np.arange(width)
    mask = (columns >= begins[:, None]) & (columns < (begins + lengths)[:, None])
    source = ranges(tokens.starts()[rows], lengths)
    arrays = {"input_ids": (tokens.ids, pad_id)}
    if tokens.types is not None:
        arrays["token_type_ids"] = (tokens.types.astype(np.int32), pad_type)
    found = {"attention_mask": mask.astype(np.int64)}
    for name, (values, fill) in arrays.items():
        found[name] = np.full(mask.shape, fill, np.int64)
        found[name][mask] = values[source]
    return found


def lay_out(sides: Sequence[Side], between: Sequence[Int32]) -> tuple[Int32, Int64]:
    """Rows of `between[0]`, first side, `between[1]`, second side and so on, up to the last of `between`.

    Returns their ids (T) and lengths (n).
    """
    count = len(sides[0].lengths)
    lengths = np.full(count, sum(map(len, between)), np.int64)
    for side in sides:
        lengths += side.lengths
    at = np.cumsum(lengths) - lengths
    ids = np.empty(int(lengths.sum()), np.int32)
    for number, constant in enumerate(between):
        for value in constant.tolist():
            ids[at] = value
            at += 1
        if number < len(sides):
            side = sides[number]
            source = side.ids
            if len(source) != int(side.lengths.sum()):
                source = source.take(ranges(side.starts, side.lengths))
            ids[ranges(at, side.lengths)] = source
            at += side.lengths
    return ids, lengths
