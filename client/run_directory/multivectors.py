"""Late-interaction vectors of a whole run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...protocol.errors import RunDirectoryError
from .files import AGAIN, read_table
from .sparse_vectors import flattened, list_lengths


@dataclass(frozen=True, slots=True)
class Multivectors:
    """Row i has the token vectors `tokens[indptr[i]:indptr[i + 1]]`; a quarantined row has none.

    `indptr` int64 (rows + 1), `tokens` float16 (all tokens, dim).
    """

    indptr: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.float16]


def read_multivectors(segments: Iterable[tuple[Path, int]]) -> Multivectors:
    """The vectors of segment files (path, rows), in order. RunDirectoryError if a file has another number of rows."""
    lengths: list[npt.NDArray[np.int64]] = []
    parts: list[npt.NDArray[np.float16]] = []
    for path, rows in segments:
        column: Any = read_table(path, ("vector",)).column("vector")
        if len(column) != rows:
            raise RunDirectoryError(f"{path}: its rows are not those of its chunk segment; delete it and {AGAIN}")
        lengths.append(list_lengths(column))
        parts.append(token_vectors(column))
    indptr = (
        np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(lengths))])
        if lengths
        else np.zeros(1, np.int64)
    )
    return Multivectors(indptr, np.concatenate(parts) if parts else np.empty((0, 0), np.float16))


def token_vectors(column: Any) -> npt.NDArray[np.float16]:
    """All token vectors of a `vector` column of multivectors, one after another: (tokens, dim)."""
    dim = int(column.type.value_type.list_size)
    tokens: Any = flattened_lists(column)
    return np.asarray(tokens, np.float16).reshape(-1, dim)


def flattened_lists(column: Any) -> npt.NDArray[Any]:
    """The numbers in a list of fixed-size lists."""
    import pyarrow as pa

    inner: Any = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
    return flattened(inner)
