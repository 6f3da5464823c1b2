"""Texts that torch computes when a model is converted, and that the engine computes again at each start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.wire.arrays import Array
from ..encoders.heads import M3Row
from ..tokenizing.flat import FlatTokens

_SENTENCE = "The numbers of one text must be the same whatever other texts are computed beside it. "
PROBES = (
    "a",
    "Naïve café — 東京 and emoji 🙂 too!",
    "def parse(line: str) -> list[int]:\n    return [int(part, 16) for part in line.split(',')]",
    _SENTENCE * 2,
    _SENTENCE * 9,
    _SENTENCE * 40,
)
"""From a few tokens to more than most models take."""
QUESTION = "which numbers must be the same?"
"""The query that a cross-encoder compares with each of them."""
TOKENS = tuple(field.name for field in fields(FlatTokens))


def save_probe(path: Path, tokens: FlatTokens, part: Any) -> None:
    """Store the tokens and the `compute` result of the PROBES."""
    found = {name: getattr(tokens, name) for name in TOKENS}
    arrays = {name: array for name, array in found.items() if array is not None}
    for row, one in enumerate(part):
        arrays |= {f"found.{row}.{place}": array for place, array in enumerate(_arrays(one))}
    np.savez(path, allow_pickle=False, **arrays)


def load_probe(path: Path, kind: str) -> tuple[FlatTokens, Any]:
    """The tokens and the result of the PROBES."""
    with np.load(path, allow_pickle=False) as stored:
        arrays: dict[str, Array] = dict(stored)
    tokens = FlatTokens(**{name: arrays[name] for name in TOKENS if name in arrays})
    rows = [_row(kind, arrays, row) for row in range(len(PROBES))]
    return tokens, np.array(rows) if kind in ("dense", "rerank") else rows


def _arrays(row: Any) -> list[Array]:
    if isinstance(row, M3Row):
        return [row.dense, *row.sparse, row.colbert]
    return [np.asarray(one) for one in row] if isinstance(row, tuple) else [np.asarray(row)]


def _row(kind: str, arrays: Mapping[str, Array], row: int) -> Any:
    parts = [arrays[f"found.{row}.{place}"] for place in range(4) if f"found.{row}.{place}" in arrays]
    match kind:
        case "sparse":
            return tuple(parts)
        case "bge-m3":
            dense, indices, values, colbert = parts
            return M3Row(dense, (indices, values), colbert)
        case _:
            return parts[0]
