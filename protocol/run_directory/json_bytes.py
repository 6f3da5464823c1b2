"""Decoding JSON that anybody may have written over: whatever is wrong with it is one kind of error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(data: bytes, kind: type[T]) -> T:
    """The value, checked against its type. msgspec.DecodeError, a ValueError, also for text that is not UTF-8 and for values
    nested more deeply than Python follows: msgspec raises others for these."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from error
