"""Describe a file that a writer has committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...protocol.run_directory.records.exports import ExportedFile


def describe(path: Path, form: str, rows: int) -> ExportedFile:
    """The file's entry for the record, with size and digest read back from the file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(name=path.name, format=form, rows=rows, bytes=path.stat().st_size, sha256=digest)
