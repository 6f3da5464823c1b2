"""Read a segment file a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError, unreadable

BATCH_BYTES = 4 << 20
"""Approximate size of a batch of rows."""

MOST_ROWS = 1024
READ_BYTES = 1 << 16

_REMEDY = "delete it and run the same command again"


def stream_batches(path: Path, columns: Sequence[str], rows: int | None = None) -> Iterator[pa.RecordBatch]:
    """Yield these columns of a segment in batches of at most MOST_ROWS rows and about BATCH_BYTES.

    With `rows`, in batches of that many rows, so that files of several vectors can be read side by side. Page checksums are
    verified if the file has them. RunDirectoryError if it is torn or lacks a column.
    """
    try:
        # Without these two options pyarrow reads a whole column before it yields the first batch.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES, page_checksum_verification=True) as file:
            names: list[str] = file.schema_arrow.names
            absent = [name for name in columns if name not in names]
            if absent:
                raise RunDirectoryError(f"{path}: has no column {', '.join(absent)}; {_REMEDY}")
            # Threads need buffers for each column and gain nothing on small batches.
            size = rows or _rows_at_once(file.metadata)
            yield from file.iter_batches(size, columns=list(columns), use_threads=False)
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is gone; run the same command again, which makes it") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise unreadable(path, error, f"{path}: torn or unreadable ({error}); {_REMEDY}") from error


def _rows_at_once(meta: Any) -> int:
    size = sum(meta.row_group(number).total_byte_size for number in range(meta.num_row_groups))
    return max(1, min(MOST_ROWS, BATCH_BYTES * meta.num_rows // max(1, size)))
