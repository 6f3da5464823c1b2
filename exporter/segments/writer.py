"""Commit a segment: tmp → fsync → rename → fsync of the folder. Only then is it acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_file
from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import digest, token_vectors, with_info
from ...protocol.vectors.storage import is_bytewise
from .builder import SegmentBuilder
from .columns import DenseColumn


@dataclass(frozen=True, slots=True)
class CommittedSegment:
    """What was committed. `quarantined` rows lack the vector of some output."""

    segment: int
    rows: int
    quarantined: int


def commit_segment(layout: RunLayout, segment: int, fingerprint: str, builder: SegmentBuilder) -> CommittedSegment:
    """Write every output of a pass, one file after the other; OSError where the disk refuses, DamagedChunks.

    The segment of the pass is committed when the last of them stands.
    """
    path = layout.chunk_segment(segment)
    chunks = read_chunk_columns(layout, segment, ("row", "id"))
    if chunks.num_rows != builder.rows:
        raise RunDirectoryError(f"{path} has {chunks.num_rows} rows, the results {builder.rows}; --restart starts over")
    for place, output in enumerate(builder.outputs):
        table = builder.table(place, _one(chunks, "row"), _one(chunks, "id"))
        column = builder.column(place)
        info = VectorSegmentInfo(
            vector=output.vector,
            segment=segment,
            first_row=int(chunks.column("row")[0].as_py()),
            rows=builder.rows,
            quarantined=len(builder.errors[place]),
            tokens=builder.tokens,
            stood_in=len(builder.from_metadata) if output.form == "sparse" else 0,
            unusable=len(builder.unusable) if output.form == "sparse" else 0,
            fingerprint=fingerprint,
            digest=digest(table),
            token_vectors=token_vectors(table) if output.form == "multivector" else None,
            storage=column.storage if isinstance(column, DenseColumn) else None,
            worst_cosine=column.worst_cosine if isinstance(column, DenseColumn) else None,
            truncated=builder.truncated,
            tokens_cut=builder.tokens_cut,
        )
        commit_table(with_info(table, info), layout.vector_segment(output.vector, segment))
    return CommittedSegment(segment, builder.rows, builder.quarantined)


def commit_table(table: pa.Table, path: Path) -> None:
    """Write a table, with its info in the metadata, as a vector segment."""
    commit_file(path, lambda partial: _write(table, partial))


def _one(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _write(table: pa.Table, path: Path) -> None:
    # Vectors are noise to a compressor and to a dictionary; ids and errors are small beside them. But Parquet has no
    # integers of less than four bytes: where components have one, a dictionary of 256 entries is what keeps it so.
    names: list[str] = table.schema.names
    bytewise = "vector" in names and is_bytewise(table.schema.field("vector"))
    dictionary: Any = ["vector.list.element"] if bytewise else False
    pq.write_table(
        table, path, compression="none", use_dictionary=dictionary, write_statistics=False, write_page_checksum=True
    )
