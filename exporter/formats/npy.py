"""`NAME.npy`: the dense vectors of a pass as one array."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.finished_run.npy_file import write_npy_file
from ...protocol.run_directory.atomic_files import commit_file
from .exported_file import ExportedFile, describe


def write_npy(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """float32 (rows, dim) in the order of the run's rows; a quarantined row is NaN. For `np.load(path, mmap_mode="r")`."""
    for name, shape in run.shapes().items():
        if shape.form == "dense":
            path = folder / f"{name}.npy"
            commit_file(path, lambda partial, name=name, dim=shape.dim: _write(run, name, dim, partial))
            yield describe(path, "npy", run.rows)


def _write(run: DoneRun, name: str, dim: int, path: Path) -> None:
    write_npy_file(path, run.layout, name, run.segments, (run.rows, dim), "float32")
