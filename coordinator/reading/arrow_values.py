"""Convert rows of Parquet to records that JSON can hold, by Arrow type.

Maps and structs become objects, and lists arrays. Times become ISO text built from their integers, so that installed time
zone libraries make no difference. Decimals become numbers if that is exact, else text. Bytes stay bytes, since they may be a
text or an id. No type makes a row, or a file, unreadable.
"""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .lenient_json import cleaned
from .plain_values import decimal_value, iso_dates, iso_duration, iso_interval, iso_time, iso_timestamps, map_key
from .records import Item, Noted, Numbered, Reject, excerpt

types: Any = pa.types

MS_A_DAY = 86_400_000


def rows(batch: pa.RecordBatch, first: int) -> Numbered:
    """The rows of a batch, numbered from `first`; a row with text that is not UTF-8 becomes a Reject."""
    try:
        return list(enumerate(_records(batch), first))
    except UnicodeDecodeError:
        return [(first + row, _row(batch.slice(row, 1))) for row in range(batch.num_rows)]


def _row(batch: pa.RecordBatch) -> Item:
    try:
        return _records(batch)[0]
    except UnicodeDecodeError as error:
        return Reject(f"invalid UTF-8 at byte {error.start}", excerpt(error.object))


def _records(batch: pa.RecordBatch) -> list[Item]:
    names: list[str] = batch.schema.names
    notes: dict[int, set[str]] = {}
    columns = [_column(column, notes) for column in batch.columns]
    records: list[Item] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if not names:
        return [{} for _ in range(batch.num_rows)]
    for row, met in notes.items():
        record = records[row]
        assert isinstance(record, dict), "just made"
        records[row] = Noted(record, tuple(sorted(met)))
    return records


def _column(column: Any, notes: dict[int, set[str]]) -> list[Any]:
    """The values of a column. `notes` gains, by row, notes on changed values."""
    found = values(column)
    if _has_odd_floats(column):
        for row, value in enumerate(found):
            met = set[str]()
            found[row] = cleaned(value, met)
            if met:
                notes.setdefault(row, set()).update(met)
    return found


def _has_odd_floats(array: Any) -> bool:
    """Whether the array may hold a number that is not finite, at any depth. Values outside a slice may count too."""
    kind = array.type
    if types.is_floating(kind):
        numbers = array.drop_null()
        numbers = numbers.cast(pa.float32()) if types.is_float16(kind) else numbers
        return len(numbers) > 0 and not np.isfinite(numbers.to_numpy(zero_copy_only=False)).all()
    if types.is_struct(kind):
        return any(_has_odd_floats(array.field(index)) for index in range(kind.num_fields))
    return any(_has_odd_floats(inner) for name in _INSIDE if (inner := getattr(array, name, None)) is not None)


_INSIDE = ("storage", "dictionary", "keys", "items", "values")
"""Attributes that hold the inner arrays of an extension, a dictionary, a map and a list."""


def values(array: Any) -> list[Any]:
    """The values of an array as JSON has them, None for null. Bytes, and floats that are not finite, stay as they are.

    UnicodeDecodeError where text is not UTF-8.
    """
    try:
        return _values(array)
    except UnicodeDecodeError:
        raise
    except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError):  # a new or rare type
        return [_scalar(one) for one in array]


def _scalar(one: Any) -> Any:
    try:
        return one.as_py()
    except UnicodeDecodeError:
        raise
    except Exception:  # noqa: BLE001 - a type's own code may raise anything; the type's name is kept
        return f"a value of type {one.type}"


def _values(array: Any) -> list[Any]:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _extension(array, kind)
    if types.is_dictionary(kind):
        return values(array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return values(_run_end_decoded(array))
    if types.is_float16(kind):
        return array.cast(pa.float32()).to_pylist()
    if types.is_decimal(kind):
        return [None if one is None else decimal_value(one) for one in array.to_pylist()]
    if types.is_temporal(kind):
        return _masked(array, _times(array, kind))
    return _nested(array, kind)


def _run_end_decoded(array: Any) -> Any:
    import pyarrow.compute  # it takes 25 ms, and such columns are rare

    compute: Any = pyarrow.compute  # its functions are made at import, where type checkers do not see them
    return compute.run_end_decode(array)


def _nested(array: Any, kind: Any) -> list[Any]:
    """The values of structs, maps and lists; for any other type, Arrow's own conversion."""
    if types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        if not names:
            return _masked(array, [{} for _ in range(len(array))])
        children = [values(array.field(index)) for index in range(kind.num_fields)]
        return _masked(array, [dict(zip(names, row, strict=True)) for row in zip(*children, strict=True)])
    if types.is_map(kind):
        spans, window = _spans(array)
        keys = [map_key(one) for one in values(array.keys.slice(*window))]
        items = values(array.items.slice(*window))
        return _masked(array, [dict(zip(keys[a:b], items[a:b], strict=True)) for a, b in spans])
    if types.is_fixed_size_list(kind):
        size = kind.list_size
        items = values(array.values.slice(array.offset * size, len(array) * size))
        return _masked(array, [items[at * size : (at + 1) * size] for at in range(len(array))])
    if kind.num_fields == 1 and hasattr(array, "offsets"):  # the other lists
        spans, window = _spans(array)
        items = values(array.values.slice(*window))
        return _masked(array, [items[a:b] for a, b in spans])
    return array.to_pylist()


def _extension(array: Any, kind: Any) -> list[Any]:
    stored = values(array.storage)
    match kind.extension_name:
        case "arrow.uuid":
            return [None if one is None else str(uuid.UUID(bytes=one)) for one in stored]
        case "arrow.bool8":
            return [None if one is None else one != 0 for one in stored]
        case _:
            return stored


def _spans(array: Any) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The begin and end of each list within the used items, and the offset and length of the used items in the array."""
    if not len(array):
        return [], (0, 0)
    offsets = np.asarray(array.offsets).astype(np.int64)
    if types.is_list_view(array.type) or types.is_large_list_view(array.type):
        starts, stops = offsets, offsets + np.asarray(array.sizes)
    else:
        starts, stops = offsets[:-1], offsets[1:]
    first = int(starts.min())
    spans = list(zip((starts - first).tolist(), (stops - first).tolist(), strict=True))
    return spans, (first, int(stops.max()) - first)


def _masked(array: Any, found: list[Any]) -> list[Any]:
    """The values, with None where the array is null."""
    if not array.null_count:
        return found
    return [value if valid else None for value, valid in zip(found, array.is_valid().to_pylist(), strict=True)]


def _times(array: Any, kind: Any) -> list[Any]:
    if types.is_interval(kind):
        return [None if one is None else iso_interval(*one) for one in array.to_pylist()]
    counts = _integers(array, kind)
    if types.is_timestamp(kind):
        return iso_timestamps(counts, kind.unit, zoned=kind.tz is not None)
    if types.is_date32(kind):
        return iso_dates(counts)
    if types.is_date64(kind):
        days, rest = np.divmod(counts, MS_A_DAY)
        return iso_timestamps(counts, "ms", zoned=False) if rest.any() else iso_dates(days)
    spell = iso_duration if types.is_duration(kind) else iso_time
    return [spell(count, kind.unit) for count in counts.tolist()]


def _integers(array: Any, kind: Any) -> npt.NDArray[np.int64]:
    """The integers in which the times are stored; 0 for null."""
    counts = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    return np.asarray(counts.fill_null(0).to_numpy(zero_copy_only=False)).astype(np.int64)
