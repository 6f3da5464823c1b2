"""Arrays as raw frames. A header gives name, dtype and shape; the frame must have exactly that many bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import ProtocolError

Array = npt.NDArray[Any]

DTYPES = frozenset({"<f4", "<f2", "<i4", "<i8", "<u4", "|u1", "|i1"})
"""What may cross the wire: little-endian numbers, never objects."""

MAX_DIMENSIONS, MAX_LENGTH, MAX_ITEMS = 4, 1 << 31, 1 << 40
"""Bounds of an array on the wire: its dimensions, the length of each, and its elements."""


class ArrayHeader(msgspec.Struct, frozen=True, array_like=True):
    """Describes one array; its bytes follow as a frame."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes that the frame must have."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def pack(arrays: Mapping[str, Array]) -> tuple[tuple[ArrayHeader, ...], list[memoryview]]:
    """Headers and frames of `arrays`, in order; frames share memory with contiguous arrays."""
    headers: list[ArrayHeader] = []
    frames: list[memoryview] = []
    for name, array in arrays.items():
        flat = np.ascontiguousarray(array)
        headers.append(ArrayHeader(name, flat.dtype.str, flat.shape))
        frames.append(flat.reshape(-1).view(np.uint8).data)
    return tuple(headers), frames


def check(headers: Sequence[ArrayHeader], frames: Sequence[Any]) -> None:
    """Raise ProtocolError unless each frame has exactly the bytes of its header."""
    if len(headers) != len(frames):
        raise ProtocolError(f"{len(headers)} arrays announced, {len(frames)} frames came")
    for header, frame in zip(headers, frames, strict=True):
        name, dtype, shape = header.name[:80], header.dtype[:80], header.shape
        # Checked before the product: multiplying a hundred thousand large numbers would take minutes.
        if len(shape) > MAX_DIMENSIONS:
            raise ProtocolError(f"array {name!r} of dtype {dtype!r} and {len(shape)} dimensions is not allowed")
        if header.dtype not in DTYPES or any(n < 0 for n in shape):
            raise ProtocolError(f"array {name!r} of dtype {dtype!r} and shape {shape} is not allowed")
        if len(frame) != header.n_bytes:
            raise ProtocolError(f"array {name!r} has {len(frame)} bytes; {header.n_bytes} were announced")
        # numpy refuses too large dimensions even if the array is empty.
        if any(n >= MAX_LENGTH for n in shape) or math.prod(max(n, 1) for n in shape) > MAX_ITEMS:
            raise ProtocolError(f"array {name!r} of shape {shape} is not allowed")


def unpack(headers: Sequence[ArrayHeader], frames: Sequence[Any]) -> dict[str, Array]:
    """The arrays of `frames`, read-only views where the frame allows; raises ProtocolError as `check` does."""
    check(headers, frames)
    return {
        header.name: np.frombuffer(frame, dtype=header.dtype).reshape(header.shape)
        for header, frame in zip(headers, frames, strict=True)
    }
