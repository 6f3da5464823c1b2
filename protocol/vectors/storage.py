"""How dense vectors are stored in a segment: float32, float16, int8 or one bit per component.

float32  fixed_size_list<float>[dim]
float16  fixed_size_list<halffloat>[dim]
int8     fixed_size_list<int8>[dim]; q means `low + (q + 128) * (high - low) / 255`, where `low` and `high` are the smallest
         and largest number of the dimension in this file, so that nothing is clipped. They are in the metadata of the
         field, so that a file can be read alone. A segment in which a vector would have a cosine below INT8_COSINE is
         stored as float16: extreme numbers make the range wide and its steps coarse
binary   fixed_size_list<uint8>[dim / 8]; bit 7 of byte 0 is component 0; a bit is set if the component is above 0. Read
         back as ±1/√dim

docs/vectors.md has the measured cosine of each to the float32 vector.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..spec.int8_ranges import Int8Ranges
from ..spec.run_spec import Storage

FloatArray = npt.NDArray[np.float32]

RANGES_KEY = b"embedfleet.ranges"
STEPS = 255
BLOCK = 1024
"""Rows that are rounded at once, which bounds the temporary arrays."""
INT8_COSINE = 0.9996
"""The least cosine of an int8 vector to the computed one, as docs/vectors.md promises."""

_ITEM: dict[Storage, Any] = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "int8": pa.int8(),
    "binary": pa.uint8(),
}
_STORAGE: dict[Any, Storage] = {kind: name for name, kind in _ITEM.items()}


def measure_ranges(vectors: FloatArray) -> Int8Ranges:
    """The smallest and largest number in each dimension of (rows, dim); -1 and 1 if there are no rows."""
    if not len(vectors):
        dim = vectors.shape[1]
        return Int8Ranges((-1.0,) * dim, (1.0,) * dim)
    return Int8Ranges(tuple(vectors.min(axis=0).tolist()), tuple(vectors.max(axis=0).tolist()))


def dense_field(storage: Storage, dim: int, ranges: Int8Ranges | None = None) -> Any:
    """The Arrow field `vector` for vectors of `dim` dimensions; int8 needs its ranges."""
    width = dim // 8 if storage == "binary" else dim
    metadata = {RANGES_KEY: msgspec.json.encode(ranges)} if storage == "int8" and ranges is not None else None
    return pa.field("vector", pa.list_(_ITEM[storage], width), metadata=metadata)


def storage_of(field: Any) -> Storage:
    """How the vectors of a field are stored. ValueError for any other type."""
    try:
        return _STORAGE[field.type.value_type]
    except KeyError:
        raise ValueError(f"vectors of type {field.type}") from None


def is_bytewise(field: Any) -> bool:
    """Whether the field has dense vectors stored as int8 or binary."""
    return pa.types.is_fixed_size_list(field.type) and storage_of(field) in ("int8", "binary")


def dim_of(field: Any) -> int:
    """Dimensions of the vectors of a field."""
    width = int(field.type.list_size)
    return 8 * width if storage_of(field) == "binary" else width


def ranges_of(field: Any) -> Int8Ranges | None:
    """The ranges in a field's metadata, None without. ValueError if they are damaged."""
    raw = (field.metadata or {}).get(RANGES_KEY)
    try:
        return msgspec.json.decode(raw, type=Int8Ranges) if raw is not None else None
    except msgspec.MsgspecError as error:
        raise ValueError(f"the ranges of its int8 vectors cannot be read: {error}") from error


def pack(vectors: FloatArray, storage: Storage, ranges: Int8Ranges | None) -> npt.NDArray[Any]:
    """Vectors (rows, dim) in their storage format: (rows, dim), or (rows, dim / 8) bytes for binary."""
    match storage:
        case "float32":
            return vectors
        case "float16":
            return vectors.astype(np.float16)
        case "int8":
            return pack_int8(vectors, ranges)[0]
        case "binary":
            return np.packbits(vectors > 0, axis=1)


def pack_int8(vectors: FloatArray, ranges: Int8Ranges | None) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Vectors (rows, dim) as int8, and the cosine of each to its unpacked vector; NaN for a vector of zeros."""
    low, step = _scale(ranges)
    divisor = step.copy()
    divisor[divisor == 0] = 1
    packed, cosines = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        steps = (block - low) / divisor
        np.clip(np.rint(steps, out=steps), 0, STEPS, out=steps)
        packed[start : start + BLOCK] = steps - 128
        steps *= step
        steps += low
        cosines[start : start + BLOCK] = _cosines(block, steps)
    return packed, cosines


def unpack(packed: npt.NDArray[Any], storage: Storage, ranges: Int8Ranges | None) -> FloatArray:
    """The vectors that `pack` packed, as float32 (rows, dim)."""
    match storage:
        case "float32" | "float16":
            return packed.astype(np.float32, copy=False)
        case "int8":
            low, step = _scale(ranges)
            vectors = packed.astype(np.float32)
            vectors += 128
            vectors *= step
            vectors += low
            return vectors
        case "binary":
            bits = np.unpackbits(packed, axis=1)
            return np.where(bits, np.float32(1), np.float32(-1)) * np.float32(1 / math.sqrt(max(bits.shape[1], 1)))


def _scale(ranges: Int8Ranges | None) -> tuple[FloatArray, FloatArray]:
    """Lower end and step of each dimension."""
    if ranges is None:
        raise ValueError("int8 vectors without their ranges")
    low, high = np.array(ranges.low, np.float32), np.array(ranges.high, np.float32)
    return low, (high - low) / np.float32(STEPS)


def _cosines(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    squares = np.einsum("ij,ij->i", ours, ours) * np.einsum("ij,ij->i", theirs, theirs)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("ij,ij->i", ours, theirs) / np.sqrt(squares)
