"""`upload_to_qdrant.py`: a script that loads `points.jsonl` into a server, for machines without this package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.atomic_files import commit_bytes
from .exported_file import ExportedFile, describe

SOURCE = Path(__file__).parent / "upload_to_qdrant.py"


def write_upload_script(_run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """Copy the script from this package, the same for all runs: `collection.json` has what differs."""
    path = folder / SOURCE.name
    commit_bytes(path, SOURCE.read_bytes())
    path.chmod(0o755)
    yield describe(path, "upload-script", 0)
