"""Dense vectors in fewer bits: what is read is what was packed, within the error of each way, also through a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.client.verify.segment_checks import dense_problems
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.exporter.segments.writer import _write
from embedfleet.protocol.run_directory.tables import TOKENS_CUT, dense_vectors, digest, vector_schema
from embedfleet.protocol.run_directory.vector_rows import read_shape, read_vectors
from embedfleet.protocol.spec.run_spec import Output
from embedfleet.protocol.vectors.storage import (
    INT8_COSINE,
    Int8Ranges,
    dim_of,
    measure_ranges,
    pack,
    pack_int8,
    ranges_of,
    storage_of,
    unpack,
)
from embedfleet.protocol.wire.work import RowError
from hypothesis import given
from hypothesis import strategies as st

STORAGES = ("float32", "float16", "int8", "binary")
COSINE = {"float32": 1.0, "float16": 0.999999, "int8": INT8_COSINE, "binary": 0.65}
"""The least that a row keeps; docs/vectors.md has what was measured."""
ROWS, DIM = 600, 64


def unit(rows: int = ROWS, dim: int = DIM, seed: int = 3) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


def table_of(storage: Any, vectors: np.ndarray, bad: tuple[int, ...] = ()) -> pa.Table:
    """A segment as the exporter makes it."""
    rows = len(vectors)
    builder = SegmentBuilder(rows, [Output("v", "dense", "dense", storage)], [vectors.shape[1]])
    found = {"positions": np.arange(rows), "vector": vectors, "n_tokens": np.ones(rows), "truncated": np.zeros(rows)}
    builder.add(found, [RowError(row, "no luck") for row in bad])
    return builder.table(0, pa.array(range(rows)), pa.array([f"c{row}" for row in range(rows)]))


@pytest.mark.parametrize("storage", STORAGES)
def test_vectors_survive_their_file(storage: Any, tmp_path: Path) -> None:
    vectors, path = unit(), tmp_path / "00000.parquet"
    made = table_of(storage, vectors, bad=(1, ROWS - 1))
    _write(made, path)
    read = pq.read_table(path)
    found = dense_vectors(read)
    assert found.dtype == np.float32
    assert np.isnan(found[[1, ROWS - 1]]).all()
    good = np.delete(np.arange(ROWS), [1, ROWS - 1])
    assert cosines(found[good], vectors[good]).min() >= COSINE[storage] - 1e-6
    assert digest(read) == digest(made)
    assert list(dense_problems(read, normalized=True)) == []
    assert (read_shape(path).form, read_shape(path).dim) == ("dense", DIM)
    rows = list(read_vectors(path))
    assert [rows[1].vector, rows[-1].vector] == [None, None]
    np.testing.assert_array_equal(np.stack([rows[row].vector for row in good]), found[good])
    np.testing.assert_array_equal(dense_vectors(read.slice(5, 7)), found[5:12])
    field = read.schema.field("vector")
    assert (storage_of(field), dim_of(field)) == (storage, DIM)
    bits = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}[storage]
    assert path.stat().st_size < ROWS * DIM * bits / 8 + 40_000  # ids and the footer


def test_float32_is_exact_and_binary_is_the_signs() -> None:
    vectors = unit(9, 16)
    np.testing.assert_array_equal(unpack(pack(vectors, "float32", None), "float32", None), vectors)
    packed = pack(vectors, "binary", None)
    assert (packed.dtype, packed.shape) == (np.uint8, (9, 2))
    np.testing.assert_array_equal(unpack(packed, "binary", None), np.where(vectors > 0, 0.25, -0.25))
    assert packed[0, 0] >> 7 == (vectors[0, 0] > 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 9))
def test_int8_is_off_by_half_a_step_at_most(seed: int, rows: int, dim: int) -> None:
    vectors = unit(rows, dim, seed)
    ranges = measure_ranges(vectors)
    found = unpack(pack(vectors, "int8", ranges), "int8", ranges)
    step = (np.array(ranges.high) - np.array(ranges.low)) / 255
    assert (np.abs(found - vectors) <= 0.5 * step + 1e-6).all()


def test_int8_clips_what_lies_outside_and_keeps_a_constant() -> None:
    ranges = Int8Ranges((-0.5, 0.25), (0.5, 0.25))
    found = unpack(pack(np.array([[-1, 0.25], [1, 0.25]], np.float32), "int8", ranges), "int8", ranges)
    np.testing.assert_allclose(found, [[-0.5, 0.25], [0.5, 0.25]], atol=1e-6)


def test_int8_needs_its_ranges() -> None:
    made = table_of("int8", unit(3))
    assert ranges_of(made.schema.field("vector")) is not None
    bare = made.cast(vector_schema("dense", DIM, "int8").append(TOKENS_CUT))
    with pytest.raises(ValueError, match="without their ranges"):
        dense_vectors(bare)
    assert digest(bare) != digest(made)  # other ranges are other vectors


def test_no_rows_still_have_ranges() -> None:
    assert measure_ranges(np.empty((0, 2), np.float32)) == Int8Ranges((-1.0, -1.0), (1.0, 1.0))
    made = table_of("int8", unit(3), bad=(0, 1, 2))
    assert storage_of(made.schema.field("vector")) == "int8"
    assert np.isnan(dense_vectors(made)).all()


def boilerplate(rows: int, dim: int = DIM) -> np.ndarray:
    """Texts that are nearly one: what invoices or licences are to a model."""
    found = unit(1, dim, 9) + 0.002 * unit(rows, dim, 11)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def nearest(vectors: np.ndarray) -> np.ndarray:
    """The other row that is nearest to each, by distance in float64."""
    wide = vectors.astype(np.float64)
    squares = (wide**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * wide @ wide.T
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def one_number_stands_out(rows: int) -> np.ndarray:
    found = 0.5 * unit(rows, 384, 13)
    found[:, 7] = 1.0
    found[rows // 2, 7] = -30.0
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    "vectors",
    [
        np.concatenate([boilerplate(2048), unit(1000)]),
        np.concatenate([unit(5), boilerplate(900)]),
        boilerplate(900),
        np.repeat(unit(1), 900, axis=0),
        unit(1),
        unit(2),
        unit(31),
        unit(4000, 8),
        unit(3000, 384),
        one_number_stands_out(500),
        np.eye(384, dtype=np.float32),  # every dimension has one number that stands out
        np.concatenate([np.eye(384, dtype=np.float32), -np.eye(384, dtype=np.float32), unit(2000, 384)]),
    ],
)
def test_int8_keeps_its_cosine_or_is_float16(vectors: np.ndarray) -> None:
    """Against the cosine by hand, in float64."""
    made = table_of("int8", vectors)
    found, wide = dense_vectors(made).astype(np.float64), vectors.astype(np.float64)
    assert cosines(found, wide).min() >= 0.9996
    _, ours = pack_int8(vectors, measure_ranges(vectors))
    theirs = unpack(pack(vectors, "int8", measure_ranges(vectors)), "int8", measure_ranges(vectors)).astype(np.float64)
    np.testing.assert_allclose(ours, cosines(theirs, wide), atol=2e-6)
    assert storage_of(made.schema.field("vector")) == ("int8" if ours.min() >= INT8_COSINE else "float16")


def test_vectors_that_stand_out_make_a_segment_float16() -> None:
    ends = np.eye(384, dtype=np.float32)
    some = np.concatenate([ends, -ends, unit(2000, 384)])
    assert storage_of(table_of("int8", some).schema.field("vector")) == "float16"
    assert storage_of(table_of("int8", some[768:]).schema.field("vector")) == "int8"
    bad = tuple(range(768))  # what has no vector counts for nothing
    assert storage_of(table_of("int8", some, bad).schema.field("vector")) == "int8"


def test_vectors_that_are_nearly_one_stay_apart_and_equal_ones_stay_equal() -> None:
    vectors = np.concatenate([boilerplate(900), boilerplate(900)])
    found = dense_vectors(table_of("int8", vectors))
    np.testing.assert_array_equal(found[:900], found[900:])
    assert len(np.unique(found, axis=0)) == 900
    assert (nearest(vectors[:900]) == nearest(found[:900])).mean() > 0.9
    same = np.repeat(unit(1), 40, axis=0)
    np.testing.assert_array_equal(dense_vectors(table_of("int8", same)), same)


def test_a_foreign_type_is_no_storage() -> None:
    with pytest.raises(ValueError, match="double"):
        storage_of(pa.field("vector", pa.list_(pa.float64(), 4)))
