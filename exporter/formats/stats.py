"""`stats.json`: the run's statistics, beside what they are of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.atomic_files import commit_bytes
from .exported_file import ExportedFile, describe


def write_stats(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """A copy of the run's own; nothing where it has none."""
    if run.layout.stats.exists():
        path = folder / "stats.json"
        commit_bytes(path, run.layout.stats.read_bytes())
        yield describe(path, "stats", 0)
