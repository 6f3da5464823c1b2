"""Checks of one vector segment. Each yields its problems as text: the fault, the first row, the number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import TOKENS_CUT, dense_vectors, digest
from ...protocol.run_directory.truncation import Truncation
from ...protocol.spec.run_spec import Form, Storage
from ...protocol.vectors.storage import storage_of
from ..output.formatting import pluralize
from ..run_directory.multivectors import token_vectors
from ..run_directory.sparse_vectors import flattened, list_lengths

NORM_TOLERANCE: dict[Storage, float] = {"float32": 1e-3, "float16": 1e-3, "int8": 0.2, "binary": 1e-3}
"""By storage, the largest deviation from length 1 of a normalized vector: float16 and bfloat16 round, and int8 of 0.1.0
clipped values outside its ranges."""

Mask = npt.NDArray[np.bool_]


def row_problems(table: pa.Table, chunk: pa.Table) -> Iterator[str]:
    """Rows or ids that differ from the chunk segment. Both tables have `row` and `id`."""
    if table.num_rows != chunk.num_rows:
        yield f"has {pluralize(table.num_rows, 'row')}; its chunk segment has {chunk.num_rows}"
        return
    for name in ("row", "id"):
        ours, theirs = table.column(name).to_pylist(), chunk.column(name).to_pylist()
        crossed = [place for place, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]
        if crossed:
            row = chunk.column("row")[crossed[0]].as_py()
            what = f"{name} {ours[crossed[0]]!r} where the chunk has {theirs[crossed[0]]!r}"
            yield f"row {row}: {what}{_more(len(crossed))}"


def info_problems(table: pa.Table, info: VectorSegmentInfo, vector: str, segment: int) -> Iterator[str]:
    """Fields of the footer, and its digest, that differ from the table."""
    quarantined = table.num_rows - table.column("error").null_count
    expected = {"vector": vector, "segment": segment, "rows": table.num_rows, "quarantined": quarantined}
    for field, value in expected.items():
        if getattr(info, field) != value:
            yield f"its footer says {field} {getattr(info, field)!r}, the file itself {value!r}"
    counted = truncation_of(table)
    if info.truncated not in (None, counted.truncated):
        yield f"its footer says that {info.truncated} texts were cut, the file itself {counted.truncated}"
    if info.truncated is not None and info.tokens_cut != counted.tokens_cut:
        yield f"its footer says that {info.tokens_cut} tokens were cut, the file itself {counted.tokens_cut}"
    if digest(table) != info.digest:
        yield "its content is not what was committed (digest differs)"


def truncation_of(table: pa.Table) -> Truncation:
    """Count the truncated texts row by row. A table of 0.1.0 has no column `tokens_cut`."""
    truncated: Any = table.column("truncated").fill_null(False)
    rows = int(np.count_nonzero(truncated.to_numpy()))
    tokens = int(table.column("n_tokens").fill_null(0).to_numpy().sum(dtype=np.int64))
    if TOKENS_CUT.name not in table.column_names:
        return Truncation(table.num_rows, rows, tokens, None if rows else 0)
    cut: Any = table.column(TOKENS_CUT.name)
    known = cut.null_count == 0
    return Truncation(table.num_rows, rows, tokens, int(cut.to_numpy().sum(dtype=np.int64)) if known else None)


def vector_problems(form: Form, table: pa.Table, normalized: bool) -> Iterator[str]:
    """Invalid vectors, by the rules of their form."""
    match form:
        case "dense":
            yield from dense_problems(table, normalized)
        case "sparse":
            yield from sparse_problems(table)
        case "multivector":
            yield from multivector_problems(table)
        case "score":
            yield from score_problems(table)


def multivector_problems(table: pa.Table) -> Iterator[str]:
    """Token vectors that are not finite; null vectors without an error, and vectors with one."""
    error, null = _mask(table, "error", valid=True), _mask(table, "vector", valid=False)
    yield from _null_problems(table, error, null)
    row_of = np.repeat(np.arange(table.num_rows), list_lengths(table.column("vector")))
    broken = ~np.isfinite(token_vectors(table.column("vector"))).all(axis=1)
    yield from _at(table, _rows_hit(table.num_rows, row_of[broken]), "NaN or infinity in a token's vector")


def score_problems(table: pa.Table) -> Iterator[str]:
    """Scores that are not finite; null scores without an error, and scores with one."""
    error, null = _mask(table, "error", valid=True), _mask(table, "score", valid=False)
    yield from _null_problems(table, error, null)
    scores = np.asarray(table.column("score").fill_null(0).to_numpy())
    yield from _at(table, ~np.isfinite(scores), "the score is not finite")


def dense_problems(table: pa.Table, normalized: bool) -> Iterator[str]:
    """Vectors that are not finite or, if `normalized`, not of length 1; null vectors without an error, and vectors with one."""
    error, null = _mask(table, "error", valid=True), _mask(table, "vector", valid=False)
    yield from _null_problems(table, error, null)
    vectors = dense_vectors(table)
    standing = ~error & ~null
    broken = standing & ~np.isfinite(vectors).all(axis=1)
    yield from _at(table, broken, "NaN or infinity in the vector")
    if normalized:
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(np.where(np.isfinite(vectors), vectors, 0), axis=1)
        wrong = standing & ~broken & (np.abs(norms - 1) > NORM_TOLERANCE[storage_of(table.schema.field("vector"))])
        first = float(norms[int(np.argmax(wrong))]) if wrong.any() else 1.0
        yield from _at(table, wrong, f"the vector has length {first:.4f}, not 1")


def sparse_problems(table: pa.Table) -> Iterator[str]:
    """Vectors whose indices do not strictly increase, or whose values differ in number or are not finite; null vectors
    without an error, and vectors with one."""
    error, null = _mask(table, "error", valid=True), _mask(table, "indices", valid=False)
    yield from _null_problems(table, error, null)
    lengths = list_lengths(table.column("indices"))
    uneven = lengths != list_lengths(table.column("values"))
    yield from _at(table, uneven, "indices and values differ in number")
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    indices = flattened(table.column("indices")).astype(np.int64)
    falling = (np.diff(indices) <= 0) & (row_of[1:] == row_of[:-1])
    yield from _at(table, _rows_hit(len(lengths), row_of[1:][falling]), "indices do not strictly increase")
    if not uneven.any():
        infinite = ~np.isfinite(flattened(table.column("values")))
        yield from _at(table, _rows_hit(len(lengths), row_of[infinite]), "NaN or infinity in the values")


def count_nonzero(form: Form, table: pa.Table) -> int:
    """The number of vectors that are neither null nor empty nor all zeros: those that a search can find."""
    match form:
        case "dense":
            nonzero = dense_vectors(table).any(axis=1) & _mask(table, "vector", valid=True)
        case "sparse":
            nonzero = list_lengths(table.column("indices")) > 0
        case "multivector":
            row_of = np.repeat(np.arange(table.num_rows), list_lengths(table.column("vector")))
            nonzero = _rows_hit(table.num_rows, row_of[token_vectors(table.column("vector")).any(axis=1)])
        case "score":
            nonzero = _mask(table, "score", valid=True)
    return int(nonzero.sum())


def _null_problems(table: pa.Table, error: Mask, null: Mask) -> Iterator[str]:
    yield from _at(table, error & ~null, "is quarantined and yet has a vector")
    yield from _at(table, null & ~error, "has no vector and no reason for that")


def _mask(table: pa.Table, name: str, *, valid: bool) -> Mask:
    column: Any = table.column(name)
    return np.asarray((column.is_valid() if valid else column.is_null()).to_numpy(), dtype=np.bool_)


def _rows_hit(rows: int, places: npt.NDArray[Any]) -> Mask:
    hit = np.zeros(rows, dtype=np.bool_)
    hit[places] = True
    return hit


def _at(table: pa.Table, rows: Mask, what: str) -> Iterator[str]:
    """One problem that names the first of `rows` and counts them."""
    if rows.any():
        first = int(np.argmax(rows))
        row, name = table.column("row")[first].as_py(), table.column("id")[first].as_py()
        yield f"row {row} (id {name!r}): {what}{_more(int(rows.sum()))}"


def _more(count: int) -> str:
    return f", and {count - 1} more rows alike" if count > 1 else ""
