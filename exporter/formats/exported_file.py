"""Describe a file that a writer has committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...protocol.run_directory.records.exports import ExportedFile


def describe(path: Path, form: str, rows: int, name: str | None = None) -> ExportedFile:
    """The file's entry for the record, with size and digest read back from the file. `name` is for a file that is not in
    `export/` itself."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    return ExportedFile(name=name or path.name, format=form, rows=rows, bytes=size, sha256=digest)
