"""Rows whose result cannot be used are computed again in float32, one by one; what stays unusable becomes an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..protocol.wire.work import RowError
from .encoders.base import Encoder, IntArray, OutOfMemory, Prepared


class NoRoomForFloat32(OutOfMemory):
    """Out of memory in `recompute`, which needs more than `compute`."""


def usable_rows(
    encoder: Encoder, prepared: Prepared, rows: IntArray, part: Any, attempted: Callable[[], None]
) -> tuple[IntArray, Any, list[RowError]]:
    """From a micro-batch's result: the rows with a result, their results, and the errors of the other rows.

    Rows with unusable values are computed again; so is every row if the result has the wrong shape, since its numbers cannot
    be assigned to rows. A row whose second result is bad too gets an error. `attempted` is called after each second attempt.
    Out of memory discards the whole micro-batch, with its errors.
    """
    if encoder.fits(part, len(rows)):
        bad = np.flatnonzero(encoder.unusable(part)).tolist()
    else:
        part, bad = [None] * len(rows), list(range(len(rows)))
    refused: dict[int, str] = {}
    for position in bad:
        try:
            again = encoder.recompute(prepared, rows[position : position + 1])
        except OutOfMemory as error:
            raise NoRoomForFloat32(str(error)) from error
        attempted()
        if not encoder.fits(again, 1):
            refused[position] = "the model's result is of another shape than its vectors have"
        elif encoder.unusable(again)[0]:
            refused[position] = "the model's result is not finite or has no length"
        else:
            part[position] = again[0]
    errors = [RowError(int(rows[position]), reason) for position, reason in refused.items()]
    if refused:
        kept = [position for position in range(len(rows)) if position not in refused]
        rows, part = rows[kept], [part[position] for position in kept]
    for position, reason in encoder.empty_too_large(part).items():
        errors.append(RowError(int(rows[position]), reason, "multivector", too_large=True))
    return rows, part, errors
