"""Check one chunk segment by reading every page: a chunk segment has no digest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.payload import Metadata
from ...protocol.run_directory.segment_info import ChunkSegmentInfo
from ...protocol.run_directory.segment_stream import stream_batches
from ...protocol.run_directory.tables import CHUNK_SCHEMA
from ..output.formatting import pluralize
from ..run_directory.files import AGAIN

Ids = npt.NDArray[np.int64]

compute: Any = pyarrow.compute  # its functions are created at import, so a type checker does not see them

_NUMBERS = "its number is not the next one"
_BYTES = "`n_bytes` is not the length of its text"
_METADATA = "its metadata is not a JSON object"


@dataclass(slots=True)
class ChunkCount:
    """The result for one chunk segment. `hashes` are those of its ids, in row order."""

    hashes: Ids
    problems: list[str] = field(default_factory=list[str])

    @property
    def rows(self) -> int:
        return len(self.hashes)


def count_chunks(path: Path, info: ChunkSegmentInfo) -> ChunkCount:
    """Check a chunk segment, a few megabytes at a time. RunDirectoryError if it is torn or has other columns."""
    hashes, faults = [np.empty(0, np.int64)], _Faults()
    row = info.first_row
    for batch in stream_batches(path, CHUNK_SCHEMA.names):
        _check_types(path, batch)
        numbers = np.arange(row, row + batch.num_rows)
        faults.add(_NUMBERS, batch, np.asarray(batch.column("row").to_numpy()) != numbers)
        fits = compute.equal(batch.column("n_bytes"), compute.binary_length(batch.column("text")))
        faults.add(_BYTES, batch, ~np.asarray(fits.to_numpy(zero_copy_only=False), np.bool_))
        faults.add(_METADATA, batch, _undecodable(batch.column("metadata")))
        hashes.append(np.fromiter(map(hash, batch.column("id").to_pylist()), np.int64, batch.num_rows))
        row += batch.num_rows
    count = ChunkCount(np.concatenate(hashes), faults.lines(path))
    if count.rows != info.rows:
        count.problems.append(
            f"{path}: has {pluralize(count.rows, 'row')}, its footer says {info.rows}; {AGAIN} with --restart"
        )
    return count


class _Faults:
    """Faulty rows by kind: the first row, and the number of rows."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._times: dict[str, int] = {}

    def add(self, what: str, batch: pa.RecordBatch, rows: npt.NDArray[np.bool_]) -> None:
        """Add the `rows` of the batch with a fault of the kind `what`."""
        if rows.any():
            at = int(np.argmax(rows))
            name = f"row {batch.column('row')[at].as_py()} (id {batch.column('id')[at].as_py()!r})"
            self._first.setdefault(what, name)
            self._times[what] = self._times.get(what, 0) + int(rows.sum())

    def lines(self, path: Path) -> list[str]:
        """One problem for each kind."""
        return [
            f"{path}: {first}: {what}"
            + (f", and {self._times[what] - 1} more rows alike" if self._times[what] > 1 else "")
            + f"; {AGAIN} with --restart"
            for what, first in self._first.items()
        ]


def _check_types(path: Path, batch: pa.RecordBatch) -> None:
    """Raise RunDirectoryError unless the columns are those of chunks, and all text is UTF-8."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise RunDirectoryError(f"{path}: torn or unreadable ({error}); delete it and {AGAIN}") from error
    for wanted in CHUNK_SCHEMA:
        found = batch.schema.field(wanted.name).type
        if found != wanted.type:
            raise RunDirectoryError(f"{path}: its column {wanted.name} is of {found}; delete it and {AGAIN}")


def _undecodable(metadata: Any) -> npt.NDArray[np.bool_]:
    decoder = msgspec.json.Decoder(Metadata)

    def fails(one: str | None) -> bool:
        try:
            if one is not None:
                decoder.decode(one)
        except msgspec.MsgspecError:
            return True
        return False

    return np.fromiter(map(fails, metadata.to_pylist()), np.bool_, len(metadata))
