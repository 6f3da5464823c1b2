"""Check that dense vectors have length 1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

NORM_TOLERANCE = 1e-3


def not_normalized(vectors: npt.NDArray[Any]) -> Iterator[tuple[int, str]]:
    """(row, reason) for each of the vectors (rows, dim) float32 whose length is not 1, or not a number."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    wrong = ~(np.abs(squares - 1.0) <= 2 * NORM_TOLERANCE)  # NaN compares false, and so counts as wrong
    for row in np.flatnonzero(wrong).tolist():
        yield row, f"the vector is not normalized: squared length {squares[row]:.6g}"
