"""Read a chunk segment during a run, and write one. Damage raises DamagedChunks, since the run can repair it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DamagedChunks, RunDirectoryError, is_host_failure
from .layout import RunLayout

# Ids and texts are all different: a dictionary or statistics would cost time and gain nothing.
_ENCODING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["metadata"],
    "write_statistics": False,
    "write_page_checksum": True,
}


def write_chunks(table: pa.Table, path: Path) -> None:
    """Write a table with the columns of a chunk segment, and its info in the metadata, to `path`."""
    pq.write_table(table, path, **_ENCODING)


def read_chunk_columns(layout: RunLayout, segment: int, names: Sequence[str], *, threads: bool = True) -> pa.Table:
    """These columns of a whole segment, with page checksums verified. `threads`: one for each column.

    DamagedChunks if the file is damaged, RunDirectoryError if the host cannot read it.
    """
    path = layout.chunk_segment(segment)
    try:
        # Not pq.read_table: it takes folders named `key=value` above the file for columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=list(names), use_threads=threads)
    except (OSError, ValueError, pa.ArrowException) as error:
        if is_host_failure(error):
            raise RunDirectoryError(f"{path}: cannot be read ({error}); the same command goes on there") from error
        raise DamagedChunks(f"{path}: {error}", segment, str(error)) from error
