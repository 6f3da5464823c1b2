"""Read texts from a batch and add columns to it: an Arrow table, a dict of numpy arrays, or a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from ...protocol.errors import UsageError

FORMATS = "give batch_format='pyarrow', 'numpy' or 'pandas'"


def read_texts(batch: Any, column: str, argument: str) -> list[str | None]:
    """The texts in a column; None where there is none. UsageError for a column that is not there or holds no text; it names
    `argument`, the argument that named the column."""
    names = column_names(batch)
    if column not in names:
        raise UsageError(f"{argument}={column!r}: the batch has no such column, only {', '.join(names) or 'none'}")
    if isinstance(batch, pa.Table):
        found: Any = batch.column(column)
        if kinds.is_dictionary(found.type):
            found = found.cast(found.type.value_type)
        if not (kinds.is_string(found.type) or kinds.is_large_string(found.type) or kinds.is_string_view(found.type)):
            raise UsageError(f"{argument}={column!r}: the column is {found.type}, not text")
        return found.to_pylist()
    return [_text(value, column, argument) for value in _values(batch[column])]


def column_names(batch: Any) -> list[str]:
    """The names of a batch's columns. UsageError if it is no batch."""
    if isinstance(batch, pa.Table):
        return list(batch.column_names)
    if isinstance(batch, Mapping):
        return [str(name) for name in batch]
    if hasattr(batch, "columns") and hasattr(batch, "assign"):
        return [str(name) for name in batch.columns]
    raise UsageError(f"a batch is a {type(batch).__name__}; {FORMATS}")


def add_columns(batch: Any, columns: Mapping[str, Any]) -> Any:
    """The batch with Arrow arrays as more columns, in its own format.

    As numpy: dense vectors are float32 (rows, dim), NaN for a row without one; scores likewise. Sparse and multivectors are
    one array for each row, empty for a row without a vector; reasons are texts or None. As pandas: one object for each row, or
    None.
    """
    if isinstance(batch, pa.Table):
        for name, array in columns.items():
            batch = batch.append_column(name, array)
        return batch
    if isinstance(batch, Mapping):
        return {**batch, **{name: as_numpy(array) for name, array in columns.items()}}
    return batch.assign(**{name: _as_objects(array) for name, array in columns.items()})


def as_numpy(array: Any) -> Any:
    """An Arrow array as numpy has it, see `add_columns`."""
    if kinds.is_fixed_size_list(array.type):
        flat = np.array(array.values.to_numpy(zero_copy_only=False), np.float32)
        vectors = flat.reshape(len(array), array.type.list_size)
        vectors[np.asarray(array.is_null())] = np.nan
        return vectors
    if not kinds.is_list(array.type):
        return array.to_numpy(zero_copy_only=False)
    objects = np.empty(len(array), object)
    for row, value in enumerate(_as_objects(array)):
        objects[row] = np.empty(0, np.float32) if value is None else value
    return objects


def _as_objects(array: Any) -> list[Any]:
    """One object for each row: an array of numbers, a text, a number, or None."""
    if not (kinds.is_list(array.type) or kinds.is_fixed_size_list(array.type)):
        return array.to_pylist()
    return [_numbers(one.values) if one.is_valid else None for one in array]


def _numbers(values: Any) -> Any:
    """The values of a list: (items,), or (tokens, dim) for a list of lists."""
    if not kinds.is_list(values.type):
        return values.to_numpy(zero_copy_only=False)
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(values), -1) if len(values) else np.empty((0, 0), np.float32)


def _values(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _text(value: Any, column: str, argument: str) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    raise UsageError(f"{argument}={column!r}: the column holds {type(value).__name__}, not text")
