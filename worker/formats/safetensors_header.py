"""Read the header of a safetensors file and check it against the file's length, without reading weights.

The format: 8 bytes of the header's length, a JSON object of tensors with their `data_offsets`, then the data without gaps.
Source: https://github.com/huggingface/safetensors, "Format".

The library's own `safe_open` does not suffice: it gives no offsets, which a sample of the weights needs, and has one message
for truncated and for too long files.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

MAX_HEADER_BYTES = 100_000_000
"""The library's own limit."""
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64"), 64),
}


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: its dtype, shape, and place in the data."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. ValueError with a short reason if it is damaged; OSError if it cannot be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > size - 8:
            raise ValueError(f"it is cut short: {size} bytes are not even its header")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {length} bytes")
        header = file.read(length)
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        tensors = {name: msgspec.json.decode(raw, type=Tensor) for name, raw in entries.items()}
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its header is damaged: {str(error)[:200]}") from error
    _check_places(tensors, size - 8 - length)
    return tensors


def _check_places(tensors: dict[str, Tensor], n_bytes: int) -> None:
    """Check that each tensor has the bytes of its shape, and that together they fill the file."""
    reached = 0
    for name, one in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        start, stop = one.data_offsets
        if len(one.shape) > 64 or any(not 0 <= n < 1 << 40 for n in one.shape):
            raise ValueError(f"tensor {name[:80]!r} has an impossible shape")
        bits = _BITS.get(one.dtype)
        needed = stop - start if bits is None else math.prod(one.shape) * bits // 8
        if start != reached or stop - start != needed:
            raise ValueError(f"tensor {name[:80]!r} does not have the bytes of its shape")
        reached = stop
    if reached > n_bytes:
        raise ValueError(f"it is cut short: {n_bytes} bytes of weights, and {reached} are announced")
    if reached < n_bytes:
        raise ValueError(f"{n_bytes - reached} bytes follow its last tensor")
