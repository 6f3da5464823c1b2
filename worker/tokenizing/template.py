"""The special tokens around texts and pairs, as a tokenizer's TemplateProcessing adds them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .flat import Int32, Side, lay_out

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Template:
    """k sequences, and the special tokens before, between and after them: k + 1 arrays, which may be empty."""

    ids: tuple[Int32, ...]
    types: tuple[Int32, ...]
    """Token types of the special tokens."""
    side_types: tuple[int, ...]
    """Token type of each sequence."""

    @property
    def special(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.ids))

    def fill(self, sides: Sequence[Side]) -> tuple[Int32, Int32, UInt8 | None]:
        """The rows' ids (T), their lengths (n) and types (T), None if all types are 0."""
        ids, lengths = lay_out(sides, self.ids)
        types: UInt8 | None = None
        if any(self.side_types) or any(one.any() for one in self.types):
            constant = [
                Side(np.full(int(side.lengths.sum()), kind, np.int32), side.starts, side.lengths)
                for side, kind in zip(sides, self.side_types, strict=True)
            ]
            types = lay_out(constant, self.types)[0].astype(np.uint8)
        return ids, lengths.astype(np.int32), types


def parse_template(parts: Sequence[Mapping[str, Any]], special: Mapping[str, Any], order: str) -> Template | None:
    """A template of tokenizer.json; None unless its sequences are those of `order` (`A` or `AB`), each once."""
    ids: list[list[int]] = [[]]
    types: list[list[int]] = [[]]
    side_types: list[int] = []
    names = ""
    for part in parts:
        ((kind, what),) = part.items()
        if kind == "Sequence":
            names += str(what["id"])
            side_types.append(int(what["type_id"]))
            ids.append([])
            types.append([])
        else:
            found: list[int] = special[what["id"]]["ids"]
            ids[-1] += found
            types[-1] += [int(what["type_id"])] * len(found)
    if names != order or max(itertools.chain(side_types, *types), default=0) > np.iinfo(np.uint8).max:
        return None
    as_arrays = [tuple(np.array(one, np.int32) for one in group) for group in (ids, types)]
    return Template(as_arrays[0], as_arrays[1], tuple(side_types))
