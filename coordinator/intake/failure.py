"""What ended an intake that nobody foresaw, in one line: the source, or the folder that chunks are written to."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ...protocol.process.system_refusals import not_written
from ...protocol.run_directory.layout import RunLayout


def intake_failure(error: Exception, source: str, layout: RunLayout) -> str:
    """The line. What the source's readers meet is a SourceError; what is left is most often met in writing."""
    if isinstance(error, sqlite3.Error):
        return f"{layout.id_index}: cannot be written ({error}); make room there and run the same command again"
    if isinstance(error, OSError) and error.errno is not None and _is_ours(error.filename, layout):
        return f"chunks cannot be written: {not_written(error, layout.chunks)}"
    return f"the source {source} cannot be read on: {type(error).__name__}: {error}"


def _is_ours(filename: str | None, layout: RunLayout) -> bool:
    """Whether it is a file of the run's; Arrow names none, and readers name theirs."""
    return filename is None or Path(filename).is_relative_to(layout.root)
