"""What a person typed, as paths, texts and numbers that every process can take; what none of them could is refused here."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from ..protocol.errors import EmbedfleetError, UsageError
from ..protocol.spec.local_paths import check_local

LARGEST = 2**53
"""Of a number in a flag: what every process and every file format holds exactly."""


def expand_path(value: str | PathLike[str], flag: str, error: type[EmbedfleetError] = UsageError) -> Path:
    """Expand `~` in `given`, a local path that need not exist. `what` is the flag or argument that an `error` names."""
    value = os.fspath(value)
    check_local(value, flag, error)
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
    """UsageError for what is not UTF-8: it could be written to no file."""
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise UsageError(f"{flag} {value!r}: is not UTF-8") from None


def check_number(value: int | None, flag: str) -> None:
    """UsageError for a number beyond `LARGEST`."""
    if value is not None and abs(value) > LARGEST:
        raise UsageError(f"{flag} {value}: give a smaller number, at most {LARGEST:,}")
