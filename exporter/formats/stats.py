"""`stats.json`: a copy of the run's statistics for the export folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.atomic_files import commit_bytes
from .exported_file import ExportedFile, describe


def write_stats(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """Copy the run's `stats.json`, if it has one."""
    if run.layout.stats.exists():
        path = folder / "stats.json"
        commit_bytes(path, run.layout.stats.read_bytes())
        yield describe(path, "stats", 0)
