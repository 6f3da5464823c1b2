"""Measure the size of a vector's segments: tables of the sample's rows are encoded as the exporter encodes them.

Dense vectors are random ones, since they are stored without compression. Two tables, one of half the rows, show what a row
takes and what a segment takes besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.planning.model_figures import Basis, VectorFigures
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import TOKENS_CUT, vector_schema, with_info, write_vectors
from ...protocol.spec.int8_ranges import Int8Ranges
from ...protocol.spec.run_spec import Output
from ...protocol.vectors.storage import measure_ranges, pack

MOST_BYTES = 32 << 20
"""Of the vectors in a table that is encoded for its size."""
MOST_ROWS, LEAST_ROWS = 4_096, 64

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entries:
    """How many weights, or token vectors, each row of the sample has (n), and where that is from."""

    counts: Counts
    basis: Basis
    note: str = ""


@dataclass(frozen=True, slots=True)
class SampleRows:
    """The rows that stand for all: their ids, and the rows of a usual segment."""

    ids: Sequence[str]
    segment_rows: int


def dense_size(rows: SampleRows, output: Output, dim: int) -> VectorFigures:
    """The size of dense vectors of `dim` dimensions in the storage of the output."""
    generator = np.random.default_rng(0)
    count = _rows(rows, 4 * dim)

    def column(chosen: Counts) -> tuple[dict[str, Any], Int8Ranges | None]:
        vectors = generator.standard_normal((len(chosen), dim), np.float32)
        ranges = measure_ranges(vectors) if output.storage == "int8" else None
        packed = pack(vectors, output.storage, ranges)
        return {"vector": pa.FixedSizeListArray.from_arrays(pa.array(packed.reshape(-1)), packed.shape[1])}, ranges

    places = _even_places(len(rows.ids), count)
    known = np.zeros(count, np.int64)
    row_bytes, segment_bytes = _fitted(output, dim, _at(rows.ids, places), known, column)
    note = "a segment where int8 would be too coarse takes twice as much" if output.storage == "int8" else ""
    return _figures(output, dim, row_bytes, segment_bytes, "counted", note)


def list_size(rows: SampleRows, output: Output, dim: int, entries: Entries) -> VectorFigures:
    """The size of sparse weights, or of token vectors with `dim` dimensions, that have so many entries a row."""
    each = 8 if output.form == "sparse" else 2 * dim
    mean = float(entries.counts.mean()) if len(entries.counts) else 0.0
    count = _rows(rows, int(each * max(mean, 1)))
    places = _even_places(len(rows.ids), count)
    counts = entries.counts[places]

    def column(chosen: Counts) -> tuple[dict[str, Any], None]:
        offsets = np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int32)
        return _lists(output, dim, offsets), None

    ids = _at(rows.ids, places)
    row_bytes, segment_bytes = _fitted(output, dim, ids, each * counts, column)
    row_bytes += each * mean
    return _figures(
        output, dim if output.form == "multivector" else 0, row_bytes, segment_bytes, entries.basis, entries.note
    )


def _lists(output: Output, dim: int, offsets: npt.NDArray[np.int32]) -> dict[str, Any]:
    total = int(offsets[-1])
    if output.form == "sparse":
        parts = {"indices": np.zeros(total, np.uint32), "values": np.zeros(total, np.float32)}
        return {name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(part)) for name, part in parts.items()}
    flat = pa.array(np.zeros(total * dim, np.float16))
    return {"vector": pa.ListArray.from_arrays(pa.array(offsets), pa.FixedSizeListArray.from_arrays(flat, dim))}


def _fitted(
    output: Output,
    dim: int,
    ids: Sequence[str],
    known: Counts,
    column: Callable[[Counts], tuple[dict[str, Any], Any]],
) -> tuple[float, float]:
    """Bytes a row, and bytes of a segment besides, without the `known` bytes of each row (n): from a table of these rows, and
    one of some of them. `column` has the vectors of the rows at these places."""
    every = np.arange(len(ids))
    some = np.sort(np.random.default_rng(0).permutation(len(ids))[: len(ids) // 2])
    large, small = (
        _encoded(output, dim, _at(ids, chosen), *column(chosen)) - int(known[chosen].sum()) for chosen in (every, some)
    )
    if len(ids) < 2:
        return float(large), 0.0
    row_bytes = (large - small) / (len(every) - len(some))
    return row_bytes, max(large - row_bytes * len(ids), 0.0)


def _encoded(output: Output, dim: int, ids: Sequence[str], own: dict[str, Any], ranges: Int8Ranges | None) -> int:
    """The bytes of a segment of these rows."""
    count = len(ids)
    columns = {
        "row": pa.array(np.arange(count)),
        "id": pa.array(ids, pa.string()),
        **own,
        "n_tokens": pa.array(np.arange(count, dtype=np.int32)),
        "truncated": pa.array(np.zeros(count, np.bool_)),
        "error": pa.nulls(count, pa.string()),
        "stood_in": pa.array(np.zeros(count, np.bool_)),
        TOKENS_CUT.name: pa.array(np.zeros(count, np.int32)),
    }
    schema = vector_schema(output.form, dim, output.storage, ranges).append(TOKENS_CUT)
    table = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    info = VectorSegmentInfo(
        vector=output.vector,
        segment=0,
        first_row=0,
        rows=count,
        quarantined=0,
        tokens=100 * count,
        fingerprint=f"{'0' * 16}.{'0' * 16}",
        digest="0" * 64,
        storage=output.storage if output.form == "dense" else None,
        truncated=0,
        tokens_cut=0,
    )
    sink = pa.BufferOutputStream()
    write_vectors(with_info(table, info), sink)
    return int(sink.getvalue().size)


def _figures(
    output: Output, dim: int, row_bytes: float, segment_bytes: float, basis: Basis, note: str
) -> VectorFigures:
    return VectorFigures(
        vector=output.vector,
        form=output.form,
        dim=dim,
        storage=output.storage,
        row_bytes=row_bytes,
        segment_bytes=segment_bytes,
        basis=basis,
        note=note,
    )


def _rows(rows: SampleRows, each: int) -> int:
    """Rows of the larger table: of a usual segment, if that is not too large."""
    return max(1, min(len(rows.ids), max(rows.segment_rows, LEAST_ROWS), MOST_ROWS, max(MOST_BYTES // max(each, 1), 2)))


def _at(ids: Sequence[str], places: Counts) -> list[str]:
    chosen: list[int] = places.tolist()
    return [ids[place] for place in chosen]


def _even_places(total: int, count: int) -> Counts:
    """`count` places, evenly over `total`."""
    return (np.arange(count) * total) // max(count, 1)
