"""What a sink says of a file that it has committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec


class ExportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in `export/`."""

    name: str
    format: str
    rows: int
    """Lines or rows in it; 0 where it has none."""
    bytes: int
    sha256: str
    made_of: str = ""
    """The digest of the run's vectors when it was written; put there by the record."""


def describe(path: Path, form: str, rows: int) -> ExportedFile:
    """Size and digest, read back from the file as it stands."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(name=path.name, format=form, rows=rows, bytes=path.stat().st_size, sha256=digest)
