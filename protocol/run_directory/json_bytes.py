"""JSON files that anybody may have written over: whatever is wrong with one is one kind of error."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import RunDirectoryError

T = TypeVar("T")


def decode_json(data: bytes, kind: type[T]) -> T:
    """The value, checked against its type. msgspec.DecodeError, a ValueError, also for text that is not UTF-8 and for values
    nested more deeply than Python follows: msgspec raises others for these."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from error


def read_json(path: Path, kind: type[T]) -> T | None:
    """The file's content, checked against its type; None where there is no such file."""
    try:
        return decode_json(path.read_bytes(), kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror}); check the permissions") from error
    except ValueError as error:  # msgspec raises a plain one where the bytes are no UTF-8
        raise RunDirectoryError(f"{path}: damaged ({error}); delete it and run the same command again") from error


def pretty_json(value: object) -> bytes:
    """The value as JSON for people, two spaces a level and a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
