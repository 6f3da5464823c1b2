"""Write the files of one merged segment from those of the shards, with every digest compared on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.errors import RunDirectoryError, is_host_failure, unreadable
from ...protocol.run_directory.atomic_files import commit_file
from ...protocol.run_directory.chunk_columns import read_chunk_columns, write_chunks
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.tables import CHUNK_SCHEMA, TOKENS_CUT, digest, read_info, token_vectors, with_info
from ...protocol.spec.run_spec import Output
from ..segments.writer import commit_table
from .duplicates import LeftOut
from .plan import MergedSegment
from .shard_run import DamagedShard, InputSegment, ShardRun, damage, read_columns

T = TypeVar("T")


class SegmentCopy:
    """Writes merged segments. Its calls may overlap; each holds one segment of one vector in memory."""

    def __init__(
        self, root: RunLayout, outputs: Sequence[Output], shards: Sequence[ShardRun], left_out: LeftOut
    ) -> None:
        self._root, self._outputs, self._shards, self._left_out = root, outputs, shards, left_out

    def missing(self, one: MergedSegment) -> bool:
        """Whether a file of the segment is not there."""
        segment = one.info.segment
        paths = (self._root.vector_segment(output.vector, segment) for output in self._outputs)
        return not (self._root.chunk_segment(segment).exists() and all(path.exists() for path in paths))

    def write(self, one: MergedSegment) -> list[DamagedShard]:
        """Write the files that are not there. Returns the damage in files of the shards; what needs these is not written."""
        damaged: list[DamagedShard] = []
        path = self._root.chunk_segment(one.info.segment)
        ids = read_chunk_columns(self._root, one.info.segment, ("id",)) if path.exists() else None
        if ids is None and (ids := self._write_chunks(one, damaged)) is None:
            return damaged
        for output in self._outputs:
            if not self._root.vector_segment(output.vector, one.info.segment).exists():
                self._write_vectors(one, output, ids, damaged)
        return damaged

    def _write_chunks(self, one: MergedSegment, damaged: list[DamagedShard]) -> pa.Table | None:
        """Write the chunk segment, and return its ids; None if `damaged` has gained shards."""
        parts = self._kept(one)
        tables = _read_all(
            parts, lambda part: read_columns(self._shards[part.shard], part, CHUNK_SCHEMA.names), damaged
        )
        if tables is None:
            return None
        table = self._joined(one, parts, tables)
        n_bytes = int(np.asarray(table.column("n_bytes")).sum(dtype=np.int64))
        info = msgspec.structs.replace(one.info, n_bytes=n_bytes)
        path = self._root.chunk_segment(info.segment)
        commit_file(path, lambda partial: write_chunks(with_info(table, info), partial))
        return table.select(["id"])

    def _write_vectors(self, one: MergedSegment, output: Output, ids: pa.Table, damaged: list[DamagedShard]) -> None:
        parts = self._kept(one)
        found = _read_all(parts, lambda part: self._vectors(part, output), damaged)
        if found is None:
            return
        table = self._joined(one, parts, [table for table, _ in found])
        if not table.column("id").equals(ids.column("id")):
            first = parts[0]
            damaged.append(
                DamagedShard(first.shard, f"segment {first.segment} of {output.vector} has other ids than its chunks")
            )
            return
        info = _joined_info(output, one.info, table, [about for _, about in found])
        commit_table(with_info(table, info), self._root.vector_segment(output.vector, one.info.segment))

    def _kept(self, one: MergedSegment) -> list[InputSegment]:
        """The inputs of which at least one row is kept. The vectors of the others may have another form."""
        return [part for part in one.inputs if part.rows > self._left_out.count(part)]

    def _vectors(self, part: InputSegment, output: Output) -> tuple[Any, VectorSegmentInfo]:
        """The vectors of a shard's segment, whole by their digest, and their info."""
        path = self._shards[part.shard].layout.vector_segment(output.vector, part.segment)
        try:
            info = read_info(path, VectorSegmentInfo)
            # Not pq.read_table: it takes folders named `key=value` above the file for columns.
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                table = file.read(use_threads=False)  # segments are read side by side
        except RunDirectoryError as error:
            raise damage(part, error) from error
        except (OSError, ValueError, pa.ArrowException) as error:
            found = unreadable(path, error, f"{path}: torn or unreadable ({error})")
            raise found if is_host_failure(error) else DamagedShard(part.shard, str(found)) from error
        if digest(table) != info.digest:
            raise DamagedShard(part.shard, f"{path}: its content is not what its digest says")
        return table.replace_schema_metadata(None), info

    def _joined(self, one: MergedSegment, parts: Sequence[InputSegment], tables: Sequence[pa.Table]) -> pa.Table:
        """The rows that are kept, in one piece and with the row numbers of the merged run."""
        kept: list[Any] = []
        for part, table in zip(parts, tables, strict=True):
            gone = self._left_out.places[self._left_out.within(part)] - part.first
            kept.append(table.take(np.delete(np.arange(part.rows), gone)) if len(gone) else table)
        rows = pa.array(np.arange(one.info.first_row, one.info.first_row + one.info.rows, dtype=np.int64))
        whole: Any = pa.concat_tables(kept).combine_chunks()
        return whole.set_column(0, whole.schema.field(0), rows)


def _read_all(
    parts: Sequence[InputSegment], read: Callable[[InputSegment], T], damaged: list[DamagedShard]
) -> list[T] | None:
    """What `read` returns for each part; None if `damaged` has gained some of them."""
    found: list[T] = []
    before = len(damaged)
    for part in parts:
        try:
            found.append(read(part))
        except DamagedShard as error:
            damaged.append(error)
    return found if len(damaged) == before else None


def _joined_info(
    output: Output, chunks: ChunkSegmentInfo, table: Any, infos: Sequence[VectorSegmentInfo]
) -> VectorSegmentInfo:
    """The info of a merged table, counted from its rows; what no column shows is summed over the files."""
    cosines = [one.worst_cosine for one in infos if one.worst_cosine is not None]
    return VectorSegmentInfo(
        vector=output.vector,
        segment=chunks.segment,
        first_row=chunks.first_row,
        rows=table.num_rows,
        quarantined=table.num_rows - table.column("error").null_count,
        tokens=_sum(table.column("n_tokens")),
        stood_in=_sum(table.column("stood_in")) if output.form == "sparse" else 0,
        unusable=sum(one.unusable for one in infos),
        fingerprint=infos[0].fingerprint,
        digest=digest(table),
        token_vectors=token_vectors(table) if output.form == "multivector" else None,
        storage=infos[0].storage,
        worst_cosine=min(cosines) if cosines else None,
        truncated=_sum(table.column("truncated")),
        tokens_cut=_tokens_cut(table),
    )


def _tokens_cut(table: Any) -> int | None:
    if TOKENS_CUT.name not in table.column_names:
        return None
    column = table.column(TOKENS_CUT.name)
    return None if column.null_count else _sum(column)


def _sum(column: Any) -> int:
    import pyarrow.compute

    compute: Any = pyarrow.compute  # its functions are created at import, so a type checker does not see them
    return int(compute.sum(column).as_py() or 0)
