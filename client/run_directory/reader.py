"""Run: read a run directory back: its chunks and every vector, in row order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from ...protocol.errors import RunDirectoryError, UsageError
from ...protocol.finished_run.npy_file import NpyDtype
from ...protocol.finished_run.table_batches import CHUNK_COLUMNS, rows_within, table_batches, table_columns
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.manifest import Manifest, read_manifest
from ...protocol.run_directory.records.quarantine import QuarantineLine
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.tables import CHUNK_SCHEMA, FloatArray, dense_vectors, read_info
from ...protocol.spec.run_spec import Output, RunSpec
from ..arguments import expand_path, run_folder
from .files import AGAIN, read_lines, read_spec, read_table, rejected_files, spans
from .memory_map import open_memory_map
from .multivectors import Multivectors, read_multivectors
from .sparse_vectors import SparseVectors, read_sparse

__all__ = ["Run", "SparseVectors", "open_run"]

BATCH_BYTES = 64 << 20
"""The most memory that a batch of `Run.batches` takes, approximately."""


def open_run(path: str | PathLike[str]) -> Run:
    """The run in the directory `path`, finished or not. RunDirectoryError if there is none."""
    layout = RunLayout(run_folder(path))
    return Run(layout, read_spec(layout), read_manifest(layout))


class Run:
    """One run directory, read-only. Chunks and vectors are read on access and are in row order."""

    def __init__(self, layout: RunLayout, spec: RunSpec, manifest: Manifest | None) -> None:
        self.layout = layout
        self.spec = spec
        self._manifest = manifest

    @property
    def root(self) -> Path:
        return self.layout.root

    @property
    def manifest(self) -> dict[str, Any] | None:
        """`manifest.json`; None until the run is done."""
        return self._manifest.to_json() if self._manifest is not None else None

    @property
    def complete(self) -> bool:
        """Whether the run is done, by its manifest: nothing is missing."""
        return self._manifest is not None and self._manifest.done

    @property
    def vector_names(self) -> tuple[str, ...]:
        """The vectors of the run, in the order of its passes."""
        return tuple(one.vector for one in self.spec.outputs)

    @property
    def rows(self) -> int:
        """Number of chunks read so far; all chunks once the run is complete."""
        return sum(info.rows for info in self._infos)

    @cached_property
    def ids(self) -> list[str]:
        """Chunk ids; `ids[i]` belongs to row i."""
        return [one for path in self._chunk_files for one in read_table(path, ("id",)).column("id").to_pylist()]

    @cached_property
    def chunks(self) -> pa.Table:
        """All chunks: `row`, `id`, `text`, `metadata` (a JSON object as text, or null), `n_bytes`."""
        tables = [read_table(path) for path in self._chunk_files]
        return pa.concat_tables(tables) if tables else CHUNK_SCHEMA.empty_table()

    def vectors(self, name: str | None = None) -> FloatArray | SparseVectors | Multivectors:
        """The vectors called `name`: dense float32 (rows, dim), with NaN for quarantined rows; SparseVectors; Multivectors.

        The name may be left out if there is exactly one dense vector. Each call reads the files again.
        UsageError for a name that the run lacks, RunDirectoryError if segments are missing or torn.
        """
        output = self._output(name)
        self._check_whole(output.vector)
        files = [(self.layout.vector_segment(output.vector, info.segment), info.rows) for info in self._infos]
        match output.form:
            case "sparse":
                return read_sparse(files)
            case "multivector":
                return read_multivectors(files)
            case "score":
                return np.concatenate([_scores(path) for path, _ in files])
            case "dense":
                return self._dense(files)

    def batches(self, *columns: str, rows: int = 1024) -> Iterator[pa.RecordBatch]:
        """Chunks with their vectors in row order, as Arrow record batches of at most `rows` rows and about 64 MiB.

        `columns` are any of `row`, `id`, `text`, `metadata`, and names of vectors; none: all. A sparse vector has two columns,
        `NAME.indices` and `NAME.values`. A row in quarantine has null for its vector. UsageError for a column that the run
        lacks, RunDirectoryError if segments are missing or torn.
        """
        if rows < 1:
            raise UsageError(f"rows={rows}: give 1 or more")
        names = columns or (*CHUNK_COLUMNS, *self.vector_names)
        outputs = [self._output(name) for name in names if name not in CHUNK_COLUMNS]
        for one in outputs:
            self._check_whole(one.vector)
        return self._batches([name for name in names if name in CHUNK_COLUMNS], outputs, rows)

    def memmap(
        self, name: str | None = None, *, dtype: NpyDtype = "float32", folder: str | PathLike[str] | None = None
    ) -> np.memmap[Any, Any]:
        """The dense vectors called `name` as a read-only array (rows, dim) that stays on the disk; NaN for quarantined rows.

        The first call copies them into the run's folder `cache`, or into `folder`; later calls open that copy while the
        segments are those that it was made of. The name may be left out if there is exactly one dense vector. UsageError for a
        name that the run lacks or that is not dense, RunDirectoryError if segments are missing or torn or the copy cannot be
        written.
        """
        output = self._output(name)
        if output.form != "dense":
            raise UsageError(f"{self.root}: {output.vector} is {output.form}, and only dense vectors can be mapped")
        if dtype not in get_args(NpyDtype):
            raise UsageError(f"dtype={dtype!r}: give one of {', '.join(get_args(NpyDtype))}")
        self._check_whole(output.vector)
        segments = [info.segment for info in self._infos]
        where = expand_path(folder, "folder") if folder is not None else None
        return open_memory_map(self.layout, output.vector, segments, self.rows, dtype, where)

    @property
    def quarantine(self) -> list[QuarantineLine]:
        """Rows without a vector (`row`, `id`, `vector`, `reason`), then rejected records (`file`, `record`, `reason`)."""
        found: list[QuarantineLine] = []
        for name in self.vector_names:
            for segment in segments_in(self.layout.vector_folder(name)):
                path = self.layout.vector_segment(name, segment)
                if read_info(path, VectorSegmentInfo).quarantined:
                    table = read_table(path, ("row", "id", "error"))
                    for bad in table.filter(table.column("error").is_valid()).to_pylist():
                        found.append({"row": bad["row"], "id": bad["id"], "vector": name, "reason": bad["error"]})
        for path in rejected_files(self.layout):
            found.extend(read_lines(path))
        return found

    @cached_property
    def _infos(self) -> list[ChunkSegmentInfo]:
        segments = segments_in(self.layout.chunks)
        missing = sorted(set(range(segments[-1] + 1 if segments else 0)) - set(segments))
        if missing:
            raise RunDirectoryError(f"{self.layout.chunks}: lacks segments {spans(missing)}; {AGAIN} with --restart")
        return [read_info(self.layout.chunk_segment(segment), ChunkSegmentInfo) for segment in segments]

    @property
    def _chunk_files(self) -> list[Path]:
        return [self.layout.chunk_segment(info.segment) for info in self._infos]

    def _batches(self, chunk: Sequence[str], outputs: Sequence[Output], rows: int) -> Iterator[pa.RecordBatch]:
        segments = [info.segment for info in self._infos]
        columns = table_columns(self.layout, chunk, outputs, segments)
        for segment in segments:
            most = rows_within(self.layout, columns, segment, BATCH_BYTES, rows)
            yield from table_batches(self.layout, columns, segment, most)

    def _output(self, name: str | None) -> Output:
        dense = [output for output in self.spec.outputs if output.form == "dense"]
        wanted = [output for output in self.spec.outputs if output.vector == name] if name is not None else dense
        if len(wanted) == 1:
            return wanted[0]
        what = f"there is no vector {name!r}" if name is not None else f"{len(dense)} dense vectors: say which"
        raise UsageError(f"{self.root}: {what}; this run has {', '.join(self.vector_names)}")

    def _check_whole(self, name: str) -> None:
        have = set(segments_in(self.layout.vector_folder(name)))
        missing = [info.segment for info in self._infos if info.segment not in have]
        if missing:
            lack = f"{name} lacks segments {spans(missing)} of {len(self._infos)}"
            raise RunDirectoryError(f"{self.root}: unfinished, {lack}; {AGAIN}")
        if not self.complete and not self.layout.intake.exists():
            raise RunDirectoryError(f"{self.root}: unfinished, the source was not read to its end; {AGAIN}")

    def _dense(self, files: list[tuple[Path, int]]) -> FloatArray:
        vectors = np.empty((0, 0), dtype=np.float32)
        row = 0
        for path, rows in files:
            part = dense_vectors(read_table(path, ("vector",)))
            if not row:
                vectors = np.empty((self.rows, part.shape[1]), dtype=np.float32)
            if part.shape != (rows, vectors.shape[1]):
                shapes = f"{part.shape} vectors where {(rows, vectors.shape[1])} belong"
                raise RunDirectoryError(f"{path}: {shapes}; delete it and {AGAIN}")
            vectors[row : row + rows] = part
            row += rows
        return vectors


def _scores(path: Path) -> FloatArray:
    return np.asarray(read_table(path, ("score",)).column("score").to_numpy(), np.float32)
