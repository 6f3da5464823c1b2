"""Sparse vectors of a whole run, in the three arrays of a CSR matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ...protocol.errors import RunDirectoryError, unreadable
from .files import AGAIN, read_table

compute: Any = pyarrow.compute  # its functions are generated at import, unknown to type checkers


@dataclass(frozen=True, slots=True)
class SparseVectors:
    """Row i has `indices[indptr[i]:indptr[i + 1]]` and as many `values`; a quarantined row has none.

    `indptr` int64 (rows + 1), `indices` uint32, `values` float32: what `scipy.sparse.csr_matrix` takes. `stood_in` bool
    (rows,): the row's weights are those of the chunk's metadata, not a model's.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]
    stood_in: npt.NDArray[np.bool_]


def read_sparse(segments: Iterable[tuple[Path, int]]) -> SparseVectors:
    """The vectors of segment files (path, rows), in order. RunDirectoryError if a file has another number of rows."""
    files = list(segments)
    room = sum(_most_values(path) for path, _ in files)
    indptr = np.zeros(sum(rows for _, rows in files) + 1, dtype=np.int64)
    indices, values = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.float32)
    stood_in = np.zeros(len(indptr) - 1, dtype=np.bool_)
    row = used = 0
    for path, rows in files:
        table = read_table(path, ("indices", "values", "stood_in"))
        ends = used + np.cumsum(list_lengths(table.column("indices")))
        if table.num_rows != rows or not np.array_equal(ends, used + np.cumsum(list_lengths(table.column("values")))):
            raise RunDirectoryError(f"{path}: its rows are not those of its chunk segment; delete it and {AGAIN}")
        end = int(ends[-1]) if rows else used
        indices[used:end], values[used:end] = flattened(table.column("indices")), flattened(table.column("values"))
        indptr[row + 1 : row + rows + 1] = ends
        stood_in[row : row + rows] = table.column("stood_in").fill_null(False).to_numpy()
        row, used = row + rows, end
    return SparseVectors(indptr, indices[:used], values[:used], stood_in)


def list_lengths(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The length of each list, 0 for null."""
    lengths: Any = compute.fill_null(compute.list_value_length(column), 0)
    return np.asarray(lengths.to_numpy(), dtype=np.int64)


def flattened(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """The elements of all lists, one after another."""
    flat: Any = compute.list_flatten(column)
    return np.asarray(flat.to_numpy())


def _most_values(path: Path) -> int:
    """An upper bound of the number of values in the file, from its footer: Parquet counts a null or empty list as one."""
    try:
        with pq.ParquetFile(path) as file:
            meta = file.metadata
            groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
            columns = [group.column(number) for group in groups for number in range(group.num_columns)]
            return sum(column.num_values for column in columns if column.path_in_schema.split(".")[0] == "indices")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error, f"{path}: torn or unreadable ({error}); delete it and {AGAIN}") from error
