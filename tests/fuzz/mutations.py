"""Hostile MessagePack: valid messages bent in their bytes or in their values, fragments made to hurt, and noise."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import msgpack

DEEPEST = 3_000


def _length(kind: bytes, form: str) -> Callable[[random.Random], bytes]:
    """A type byte and a length that nothing follows up on."""
    most = 256 ** struct.calcsize(form) - 1
    return lambda rng: kind + struct.pack(form, rng.choice((most, most // 2, 1 << 16 if most > 1 << 16 else 200)))


FRAGMENTS: tuple[bytes | Callable[[random.Random], bytes], ...] = (
    _length(b"\xdd", ">I"),  # array 32
    _length(b"\xdc", ">H"),
    _length(b"\xdf", ">I"),  # map 32
    _length(b"\xde", ">H"),
    _length(b"\xdb", ">I"),  # str 32
    _length(b"\xc6", ">I"),  # bin 32
    _length(b"\xc9", ">I"),  # ext 32
    lambda rng: b"\x91" * rng.randrange(1, DEEPEST),
    lambda rng: b"\x81\xa1k" * rng.randrange(1, DEEPEST),
    lambda rng: b"\x81" * rng.randrange(1, DEEPEST),  # maps as keys of maps
    lambda rng: bytes((rng.choice((0xD4, 0xD5, 0xD6, 0xD7, 0xD8)), rng.randrange(256))) + rng.randbytes(16),  # ext
    lambda rng: b"\xd7\xff" + rng.randbytes(8),  # a time, in 64 bits
    lambda rng: b"\xc7\x0c\xff" + rng.randbytes(12),  # a time, in 96 bits
    lambda rng: b"\xcb" + struct.pack(">d", rng.choice((float("nan"), float("inf"), -0.0, 5e-324))),
    b"\xca\x7f\xc0\x00\x00",  # NaN in 32 bits
    lambda rng: b"\xcf" + struct.pack(">Q", rng.choice((2**64 - 1, 2**63, 2**53 + 1))),
    b"\xd3" + struct.pack(">q", -(2**63)),
    b"\x82\xa1a\x01\xa1a\x02",  # a key twice
    b"\x82\xa4type\xa6submit\xa4type\xa5watch",
    b"\xa4\xff\xfe\xed\xa0",  # a string that is not UTF-8
    b"\xc1",  # no type at all
    b"\x80\x90\xc0",
)

_HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    2**64 - 1,
    -(2**63),
    float("nan"),
    float("inf"),
    "",
    "\0" * 9,
    "x" * 5_000,
    b"bytes",
    [],
    {},
    [0] * 500,
    [2**63 - 1] * 300,
    {"type": "submit"},
    {1: 2},
    msgpack.ExtType(5, b"ext"),
    msgpack.Timestamp(2**33, 999_999_999),
)


def mutated(frame: bytes, other: bytes, rng: random.Random) -> bytes:
    """`frame` after one to four blows; `other` is a valid message to take pieces from."""
    if rng.random() < 0.3:
        return _bent(frame, rng)
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                del data[at : at + rng.randrange(1, 20)]
            case 4:
                data[at:at] = data[at : at + rng.randrange(40)]
            case 5:
                cut = rng.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case 6:
                data[at : at + rng.randrange(12)] = _fragment(rng)
            case _:
                del data[at:]
    return bytes(data)


def noise(rng: random.Random) -> bytes:
    """Bytes that never were a message."""
    if rng.random() < 0.5:
        return rng.randbytes(rng.randrange(64))
    return b"".join(_fragment(rng) for _ in range(rng.randrange(1, 4)))


def _fragment(rng: random.Random) -> bytes:
    chosen = rng.choice(FRAGMENTS)
    return chosen if isinstance(chosen, bytes) else chosen(rng)


def _bent(frame: bytes, rng: random.Random) -> bytes:
    """A message with one value replaced by another: well-formed, of the wrong shape."""
    value = msgpack.unpackb(frame, strict_map_key=False)
    holder: Any = value
    while True:
        places = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not places:
            return msgpack.packb(rng.choice(_HOSTILE))
        place = rng.choice(places)
        inner = holder[place]
        if not isinstance(inner, list | dict) or not inner or rng.random() < 0.3:
            break
        holder = inner
    match rng.randrange(4):
        case 0:
            del holder[place]
        case 1 if isinstance(holder, list):
            holder.insert(place, rng.choice(_HOSTILE))
        case _:
            holder[place] = rng.choice(_HOSTILE)
    return msgpack.packb(value)
