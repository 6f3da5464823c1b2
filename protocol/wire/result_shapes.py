"""Check that a worker's result has the shape that its batch and its pass require, before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ProtocolError
from ..spec.run_spec import Output
from . import arrays
from .arrays import Array
from .work import Result


def check_result(message: Result, frames: Sequence[Any], rows: int, outputs: Sequence[tuple[Output, int]]) -> None:
    """Raise ProtocolError unless the arrays fit `rows` texts and these outputs.

    `outputs` pairs each output with the dimension of its vectors. The exporter takes no other shape either, but cannot ask
    another worker: it would end the run.
    """
    found = arrays.unpack(message.arrays, frames)
    for name in ("n_tokens", "truncated"):
        _expect(found, name, (rows,))
    if "tokens_cut" in found:  # a worker of 0.1.0 does not count them
        _expect(found, "tokens_cut", (rows,))
    for output, dim in outputs:
        _check_output(found, f"{output.form}/" if len(outputs) > 1 else "", output, dim, rows)
    if any(not 0 <= error.position < rows for error in message.errors):
        raise ProtocolError(f"a result of {rows} rows has an error for another one")


def _check_output(found: Mapping[str, Array], prefix: str, output: Output, dim: int, rows: int) -> None:
    match output.form:
        case "dense":
            _expect(found, f"{prefix}vector", (rows, dim))
        case "score":
            _expect(found, f"{prefix}score", (rows,))
        case "sparse":
            items = _items(_expect(found, f"{prefix}offsets", (rows + 1,)))
            _expect(found, f"{prefix}indices", (items,))
            _expect(found, f"{prefix}values", (items,))
        case "multivector":
            items = _items(_expect(found, f"{prefix}offsets", (rows + 1,)))
            _expect(found, f"{prefix}tokens", (items, dim))


def _expect(found: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    array = found.get(name)
    if array is None:
        raise ProtocolError(f"a result has no array {name!r}")
    if array.shape != shape:
        raise ProtocolError(f"a result has an array {name!r} of shape {array.shape} where {shape} is due")
    return array


def _items(offsets: Array) -> int:
    """Number of items that the offsets divide into rows."""
    if offsets.dtype.kind != "i" or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ProtocolError("a result has offsets that are not ascending whole numbers from 0")
    return int(offsets[-1])
