"""`table/00000.parquet`, …: the chunks with all their vectors as one table, in parts that any reader of Parquet takes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.finished_run.table_batches import (
    CHUNK_COLUMNS,
    TableColumns,
    rows_within,
    table_batches,
    table_columns,
)
from ...protocol.run_directory.atomic_files import make_folder, partial_of, sync_folder
from ...protocol.run_directory.exported_files import part_name
from ...protocol.run_directory.layout import segment_file, set_aside
from ...protocol.run_directory.removal import remove_table
from ...protocol.run_directory.segment_info import ChunkSegmentInfo
from ...protocol.run_directory.tables import read_info
from .exported_file import ExportedFile, describe

PART_ROWS = 65_536
PART_BYTES = 256 << 20
"""A part has whole segments: as many as stay within both limits, or one. Bytes count as in the run's files."""
GROUP_ROWS = 8_192
GROUP_BYTES = 32 << 20
"""Limits of a row group, which is what the writer has in memory."""


def part_names(run: DoneRun) -> set[str]:
    """The names of the parts, as the record of the export has them."""
    return {part_name(run.layout, part) for part in range(len(_plan(run)))}


def write_table(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """`row`, `id`, `text`, `metadata` (JSON) and each vector; see `table_batches.py` for the types. All parts appear at once:
    they are written beside the folder, which is then replaced."""
    final = folder / run.layout.table.name
    staged, before = partial_of(final), set_aside(final)
    columns = table_columns(run.layout, CHUNK_COLUMNS, run.spec.outputs, run.segments)
    rows: list[int] = []
    for left in (staged, before):
        remove_table(left)
    try:
        for part, segments in enumerate(_plan(run)):
            make_folder(staged)
            rows.append(_write_part(run, columns, segments, staged / segment_file(part)))
    except BaseException:
        remove_table(staged)
        raise
    if final.exists():
        final.rename(before)
    if rows:
        sync_folder(staged)
        staged.rename(final)
    sync_folder(folder)
    remove_table(before)
    for part, count in enumerate(rows):
        yield describe(final / segment_file(part), "parquet", count, part_name(run.layout, part))


def _plan(run: DoneRun) -> list[list[int]]:
    """The segments of each part."""
    plan: list[list[int]] = []
    rows = size = 0
    for segment in run.segments:
        paths = [run.layout.chunk_segment(segment), *(run.layout.vector_segment(name, segment) for name in run.names)]
        more_rows = read_info(paths[0], ChunkSegmentInfo).rows
        more = sum(path.stat().st_size for path in paths)
        if not plan or rows + more_rows > PART_ROWS or size + more > PART_BYTES:
            plan.append([])
            rows = size = 0
        plan[-1].append(segment)
        rows, size = rows + more_rows, size + more
    return plan


# Vectors are noise to a dictionary, and statistics of them are of no use.
_ENCODING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["metadata"],
    "write_statistics": ["row", "id"],
    "write_page_checksum": True,
}


def _write_part(run: DoneRun, columns: TableColumns, segments: Sequence[int], path: Path) -> int:
    """Write a part and sync it. Return its rows."""
    count = 0
    with pq.ParquetWriter(path, columns.schema, **_ENCODING) as writer:
        for segment in segments:
            size = rows_within(run.layout, columns, segment, GROUP_BYTES, GROUP_ROWS)
            for batch in table_batches(run.layout, columns, segment, size):
                writer.write_batch(batch)
                count += batch.num_rows
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return count
