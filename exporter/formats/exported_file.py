"""What a sink says of a file that it has committed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...protocol.run_directory.records.exports import ExportedFile


def describe(path: Path, form: str, rows: int) -> ExportedFile:
    """Size and digest, read back from the file as it stands."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(name=path.name, format=form, rows=rows, bytes=path.stat().st_size, sha256=digest)
