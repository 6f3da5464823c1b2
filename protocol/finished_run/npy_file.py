"""Write the dense vectors of a run into one `.npy` file, through a window of one segment at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy.lib.format import open_memmap

from ..errors import RunDirectoryError
from ..run_directory.layout import RunLayout
from ..run_directory.segment_info import ChunkSegmentInfo
from ..run_directory.segment_stream import stream_batches
from ..run_directory.tables import dense_vectors, read_info

NpyDtype = Literal["float32", "float16"]


def write_npy_file(
    path: Path, layout: RunLayout, vector: str, segments: Iterable[int], shape: tuple[int, int], dtype: NpyDtype
) -> None:
    """Write (rows, dim) in the order of the run's rows; a row in quarantine is NaN.

    OSError if the disk refuses; RunDirectoryError if a segment is torn, or has other rows than its chunks.
    """
    start = _lay_out(path, shape, dtype)
    for segment in segments:
        rows = read_info(layout.chunk_segment(segment), ChunkSegmentInfo).rows
        # A map of the whole file would count as resident page by page, up to all of it.
        window = np.memmap(path, dtype, "r+", start, (rows, shape[1]))
        _fill(window, layout.vector_segment(vector, segment))
        window.flush()
        start += window.nbytes
        del window


def _fill(window: npt.NDArray[np.floating], segment: Path) -> None:
    filled = 0
    for batch in stream_batches(segment, ("vector",)):
        try:
            vectors = dense_vectors(pa.Table.from_batches([batch]))
        except ValueError as error:
            raise RunDirectoryError(f"{segment}: {error}; delete it and run the same command again") from error
        end = filled + len(vectors)
        if end > len(window) or vectors.shape[1] != window.shape[1]:
            break
        window[filled:end] = vectors
        filled = end
    else:
        if filled == len(window):
            return
    raise RunDirectoryError(f"{segment}: its rows are not those of its chunk segment; `embedfleet verify` says which")


def _lay_out(path: Path, shape: tuple[int, int], dtype: NpyDtype) -> int:
    """Write the header and reserve the space. Return the offset of the first row, in bytes."""
    whole = open_memmap(path, "w+", np.dtype(dtype), shape)
    start, size = whole.offset, whole.offset + whole.nbytes
    del whole
    with path.open("r+b") as file:
        # In a file with holes a full disk would be a SIGBUS in the middle of a write; here it is an OSError.
        os.posix_fallocate(file.fileno(), 0, size)
    return start
