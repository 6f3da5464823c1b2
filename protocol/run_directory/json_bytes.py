"""Read and write JSON files. Every kind of damage raises the same type of error."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import RunDirectoryError

T = TypeVar("T")


def decode_json(data: bytes, kind: type[T]) -> T:
    """The value, checked against its type. Raises msgspec.DecodeError, a ValueError, also for text that is not UTF-8 and for
    values that are nested too deeply, for which msgspec raises other errors."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from error


def read_json(path: Path, kind: type[T]) -> T | None:
    """The file's content, checked against its type; None without the file. RunDirectoryError if it is damaged."""
    try:
        return decode_json(path.read_bytes(), kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error.strerror}); check the permissions") from error
    except ValueError as error:  # a plain ValueError for bytes that are not UTF-8
        raise RunDirectoryError(f"{path}: damaged ({error}); delete it and run the same command again") from error


def pretty_json(value: object) -> bytes:
    """The value as indented JSON (two spaces) with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
