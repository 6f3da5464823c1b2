"""`NAME.npy`: the dense vectors of a pass as one array, written through a window of one segment at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.atomic_files import commit_file
from ...protocol.run_directory.segment_info import ChunkSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.vector_rows import read_vectors
from .exported_file import ExportedFile, describe


def write_npy(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """float32 (rows, dim) in the order of the run's rows; a quarantined row is NaN. For `np.load(path, mmap_mode="r")`."""
    for name, shape in run.shapes().items():
        if shape.form == "dense":
            path = folder / f"{name}.npy"
            commit_file(path, lambda partial, name=name, dim=shape.dim: _write(run, name, dim, partial))
            yield describe(path, "npy", run.rows)


def _write(run: DoneRun, name: str, dim: int, path: Path) -> None:
    start = _lay_out(path, run.rows, dim)
    for segment in run.segments:
        rows = read_info(run.layout.chunk_segment(segment), ChunkSegmentInfo).rows
        # A map of the whole file would count as resident page by page, up to all of it.
        window = np.memmap(path, np.float32, "r+", start, (rows, dim))
        _fill(window, run.layout.vector_segment(name, segment))
        window.flush()
        start += window.nbytes
        del window


def _fill(window: npt.NDArray[np.float32], segment: Path) -> None:
    filled = 0
    for filled, one in enumerate(read_vectors(segment), 1):
        if filled > len(window):
            break
        window[filled - 1] = one.vector if isinstance(one.vector, np.ndarray) else np.nan
    if filled != len(window):
        raise RunDirectoryError(
            f"{segment}: its rows are not those of its chunk segment; `embedfleet verify` says which"
        )


def _lay_out(path: Path, rows: int, dim: int) -> int:
    """Write the header and reserve the space. Return the offset of the first row, in bytes."""
    whole = open_memmap(path, "w+", np.float32, (rows, dim))
    start, size = whole.offset, whole.offset + whole.nbytes
    del whole
    with path.open("r+b") as file:
        # In a file with holes a full disk would be a SIGBUS in the middle of a write; here it is an OSError.
        os.posix_fallocate(file.fileno(), 0, size)
    return start
