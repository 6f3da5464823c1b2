"""The dense vectors of a run as a memory map, from a copy that is made once."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.npy_file import NpyDtype, write_npy_file
from ...protocol.finished_run.published import run_digest
from ...protocol.run_directory.atomic_files import make_folder, sync_folder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.own_files import memory_maps, wrong_kind_error
from ...protocol.run_directory.vector_rows import read_shape


def open_memory_map(
    layout: RunLayout, vector: str, segments: Sequence[int], rows: int, dtype: NpyDtype, folder: Path | None
) -> np.memmap[Any, Any]:
    """The vectors of these segments, (rows, dim), read-only. `folder` None: the run's `cache`.

    The copy's name has a digest of the segments, so a copy of other vectors is never opened. RunDirectoryError if the run has
    no rows, a segment is torn, or the copy cannot be written.
    """
    if not segments:
        raise RunDirectoryError(f"{layout.root}: has no rows, so there is nothing to map")
    if folder is None and layout.cache.is_symlink():
        raise wrong_kind_error(layout.cache)
    digest, shape = run_digest(layout, [vector], segments), (rows, read_shape(_first(layout, vector, segments)).dim)
    path = layout.memory_map(vector, digest, dtype)
    path = path if folder is None else folder / path.name
    if (found := _opened(path, shape, dtype)) is not None:
        return found
    try:
        make_folder(path.parent)
        partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            write_npy_file(partial, layout, vector, segments, shape, dtype)
            if run_digest(layout, [vector], segments) != digest:
                raise RunDirectoryError(
                    f"{layout.root}: its vectors changed while they were copied; open the run again"
                )
            _name(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        if folder is None:
            _remove_older(path, vector, dtype)
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: {error.strerror or error}; make room there, or name a folder that can be written: "
            f'memmap({vector!r}, folder="…")'
        ) from error
    if (found := _opened(path, shape, dtype)) is None:
        raise RunDirectoryError(f"{path}: was removed or replaced by another process; call again")
    return found


def _first(layout: RunLayout, vector: str, segments: Sequence[int]) -> Path:
    return layout.vector_segment(vector, segments[0])


def _opened(path: Path, shape: tuple[int, int], dtype: NpyDtype) -> np.memmap[Any, Any] | None:
    """The map of a whole copy; None if there is none."""
    try:
        found: Any = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return found if isinstance(found, np.memmap) and (found.shape, found.dtype) == (shape, np.dtype(dtype)) else None


def _name(partial: Path, path: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)


def _remove_older(path: Path, vector: str, dtype: NpyDtype) -> None:
    """Remove copies of the vector's earlier state. Whoever has one mapped keeps it."""
    ours = memory_maps({vector})
    for other in path.parent.iterdir():
        if other != path and other.name.endswith(f".{dtype}.npy") and ours(other.name):
            other.unlink(missing_ok=True)
