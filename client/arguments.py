"""Check the paths, texts and numbers that a user typed: every process and file format must be able to hold them."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import cast

from ..protocol.errors import EmbedfleetError, RunDirectoryError, UsageError
from ..protocol.object_storage.address import is_address
from ..protocol.spec.local_paths import check_local

LARGEST = 2**53
"""The largest number that a flag takes: every process and every file format holds it exactly."""


def expand_path(value: str | PathLike[str], flag: str, error: type[EmbedfleetError] = UsageError) -> Path:
    """Expand `~` in the local path `value`, which need not exist. Raise `error`, naming `flag`, for an unusable path."""
    try:
        found = cast("str | bytes", os.fspath(value))
    except TypeError:
        found = b""
    if isinstance(found, bytes):
        raise error(f"{flag}={value!r}: give a path, as text or as a Path")
    value = found
    check_local(value, flag, error)
    if "\0" in value:
        raise error(f"{flag} {value[:80]!r}: holds a NUL character; give a path without one")
    try:
        value.encode()
        path = Path(value).expanduser()
        path.exists()
    except UnicodeEncodeError:
        raise error(f"{flag} {value!r}: its name is not UTF-8; rename it") from None
    except RuntimeError:
        raise error(f"{flag} {value}: there is no home folder of that name; give the path in full") from None
    except OSError as refused:  # a folder that may not be entered, a name that is too long
        raise error(f"{flag} {value}: {refused.strerror or refused}; give a path that can be used") from None
    return path


def check_text(value: str | None, flag: str) -> None:
    """Raise UsageError for text that is not UTF-8: no file could hold it."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{flag} {value!r}: is not UTF-8") from None


def check_number(value: int | None, flag: str) -> None:
    """Raise UsageError for a number beyond `LARGEST`."""
    if value is not None and abs(value) > LARGEST:
        raise UsageError(f"{flag} {value}: give a smaller number, at most {LARGEST:,}")


def run_folder(value: str | PathLike[str]) -> Path:
    """The folder of a run to read: the path itself or, for an address in object storage, a copy that is brought up to date."""
    if is_address(value):
        from ..protocol.object_storage.copies import local_copy

        return local_copy(value)
    return expand_path(value, "DIR", RunDirectoryError)
