"""SegmentBuilder: batches in any order become one segment, and what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from embedfleet.exporter.segments.builder import SegmentBuilder
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.run_directory.segment_info import TokenVectors
from embedfleet.protocol.run_directory.tables import TOKENS_CUT, dense_vectors, token_vectors, vector_schema
from embedfleet.protocol.spec.run_spec import Output
from embedfleet.protocol.wire.work import RowError
from hypothesis import given, settings
from hypothesis import strategies as st

DIM = 4


def vectors_of(positions: list[int]) -> npt.NDArray[np.float32]:
    """A unit vector for each row of a segment, told apart by its place."""
    found = np.random.default_rng(7).standard_normal((64, DIM)).astype(np.float32)[positions]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def dense(positions: list[int], **changes: Any) -> dict[str, npt.NDArray[Any]]:
    """A batch of a dense pass."""
    arrays = {
        "positions": np.array(positions, np.int32),
        "vector": vectors_of(positions),
        "n_tokens": np.array(positions, np.int32) + 1,
        "truncated": np.array([position % 2 for position in positions], np.uint8),
    }
    return arrays | changes


def sparse(rows: dict[int, list[tuple[int, float]]], **changes: Any) -> dict[str, npt.NDArray[Any]]:
    """A batch of a sparse pass."""
    pairs = [pair for row in rows.values() for pair in row]
    arrays = {
        "positions": np.array(list(rows), np.int32),
        "offsets": np.cumsum([0, *(len(row) for row in rows.values())]).astype(np.int64),
        "indices": np.array([index for index, _ in pairs], np.uint32),
        "values": np.array([value for _, value in pairs], np.float32),
        "n_tokens": np.ones(len(rows), np.int32),
        "truncated": np.zeros(len(rows), np.uint8),
    }
    return arrays | changes


def dense_builder(rows: int) -> SegmentBuilder:
    return SegmentBuilder(rows, [Output("dense-a", "dense", "dense")], [DIM])


def sparse_builder(rows: int) -> SegmentBuilder:
    return SegmentBuilder(rows, [Output("sparse-a", "sparse", "sparse")], [0])


def table(builder: SegmentBuilder, first: int = 100) -> pa.Table:
    rows = range(first, first + builder.rows)
    return builder.table(0, pa.array(rows, pa.int64()), pa.array([f"c{row}" for row in rows], pa.string()))


def test_batches_in_any_order_make_one_segment() -> None:
    builder = dense_builder(5)
    builder.add(dense([4, 0, 2]))
    assert not builder.complete
    builder.add(dense([3, 1]))
    assert builder.complete
    assert builder.tokens == 1 + 2 + 3 + 4 + 5
    made = table(builder)
    assert made.schema == vector_schema("dense", DIM).append(TOKENS_CUT)
    assert made.column("row").to_pylist() == [100, 101, 102, 103, 104]
    assert made.column("id").to_pylist() == ["c100", "c101", "c102", "c103", "c104"]
    assert dense_vectors(made).tobytes() == vectors_of([0, 1, 2, 3, 4]).tobytes()
    assert made.column("n_tokens").to_pylist() == [1, 2, 3, 4, 5]
    assert made.column("truncated").to_pylist() == [False, True, False, True, False]
    assert made.column("error").null_count == 5


@given(st.integers(1, 40).flatmap(lambda rows: st.tuples(st.permutations(range(rows)), st.integers(1, 8))))
@settings(deadline=None)
def test_no_order_of_batches_crosses_rows(case: tuple[list[int], int]) -> None:
    order, size = case
    builder = dense_builder(len(order))
    for start in range(0, len(order), size):
        assert not builder.complete
        builder.add(dense(list(order[start : start + size])))
    assert builder.complete
    assert dense_vectors(table(builder)).tobytes() == vectors_of(list(range(len(order)))).tobytes()


def test_a_row_that_failed_has_no_vector_and_its_reason() -> None:
    builder = dense_builder(3)
    builder.add(dense([2, 0]), [RowError(1, "not finite")])
    builder.give_up(np.array([1], np.int32), "took its worker down")
    assert builder.complete
    assert builder.errors == ({0: "not finite", 1: "took its worker down"},)
    made = table(builder)
    assert made.column("error").to_pylist() == ["not finite", "took its worker down", None]
    assert [value is None for value in made.column("vector").to_pylist()] == [True, True, False]
    made.validate(full=True)


@pytest.mark.parametrize("scale", [0.0, 0.9, 1.1, np.nan, np.inf])
def test_a_vector_that_is_not_normalized_is_quarantined(scale: float) -> None:
    builder = dense_builder(2)
    vectors = vectors_of([0, 1])
    vectors[1] *= np.float32(scale)
    builder.add(dense([0, 1], vector=vectors))
    assert list(builder.errors[0]) == [1]
    assert builder.errors[0][1].startswith("the vector is not normalized: squared length")
    assert table(builder).column("vector").to_pylist()[1] is None


def test_rounding_is_not_an_error() -> None:
    builder = dense_builder(1)
    builder.add(dense([0], vector=vectors_of([0]).astype(np.float16).astype(np.float32)))
    assert builder.errors == ({},)


def test_sparse_rows() -> None:
    builder = sparse_builder(4)
    builder.add(sparse({3: [(1, 0.5)], 1: []}))
    builder.add(sparse({0: [(7, 1.0), (9, 2.0)]}))
    builder.give_up(np.array([2], np.int32), "why")
    assert builder.complete
    made = table(builder)
    assert made.schema == vector_schema("sparse", 0).append(TOKENS_CUT)
    assert made.column("indices").to_pylist() == [[7, 9], [], None, [1]]
    assert made.column("values").to_pylist() == [[1.0, 2.0], [], None, [0.5]]
    assert made.column("error").to_pylist() == [None, None, "why", None]
    made.validate(full=True)


def test_a_sparse_weight_that_is_not_finite_is_quarantined() -> None:
    builder = sparse_builder(2)
    builder.add(sparse({0: [(1, np.nan)], 1: [(1, 1.0)]}))
    assert builder.errors == ({0: "a weight is not finite"},)
    assert table(builder).column("indices").to_pylist() == [None, [1]]


@pytest.mark.parametrize(
    "batch",
    [
        dense([0, 5]),
        dense([-1, 0]),
        dense([0, 1], vector=vectors_of([0])),
        dense([0, 1], vector=np.ones((2, DIM + 1), np.float32)),
        dense([0, 1], vector=np.ones(2 * DIM, np.float32)),
        dense([0, 1], n_tokens=np.ones(3, np.int32)),
        dense([0, 1], truncated=np.ones(1, np.uint8)),
    ],
    ids=["over the end", "negative", "too few", "other dimension", "flat", "n_tokens", "truncated"],
)
def test_a_dense_result_that_does_not_fit_is_refused(batch: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        dense_builder(5).add(batch)


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": np.array([0, 1], np.int64)},
        {"offsets": np.array([0, 1, 3], np.int64)},
        {"values": np.ones(1, np.float32)},
        {"positions": np.array([0, 2], np.int32)},
    ],
    ids=["too few offsets", "offsets over the end", "too few values", "over the end"],
)
def test_a_sparse_result_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        sparse_builder(2).add(sparse({0: [(1, 1.0)], 1: [(2, 1.0)]}, **changes))


def test_rows_outside_the_segment_cannot_be_given_up() -> None:
    with pytest.raises(ProtocolError, match="outside its segment of 5 rows"):
        dense_builder(5).give_up(np.array([5], np.int32), "why")


@pytest.mark.parametrize("name", ["positions", "vector", "n_tokens", "truncated"])
def test_a_result_without_one_of_its_arrays_is_refused_by_name(name: str) -> None:
    batch = dense([0, 1])
    del batch[name]
    with pytest.raises(ProtocolError, match=f"a result without the array '{name}'"):
        dense_builder(5).add(batch)


@pytest.mark.parametrize("position", [-1, 2])
def test_an_error_of_no_text_of_the_batch_is_refused(position: int) -> None:
    with pytest.raises(ProtocolError, match=f"an error for text {position} of a batch of 2"):
        dense_builder(5).add(dense([0, 1]), [RowError(position, "why")])


def test_the_vectors_of_one_model_are_told_apart_by_their_form() -> None:
    """A row that one of them cannot have has none of them: the pass gives all or a reason."""
    outputs = [Output("dense-m", "dense", "bge-m3"), Output("sparse-m", "sparse", "bge-m3")]
    builder = SegmentBuilder(2, outputs, [DIM, 0])
    both = {f"dense/{name}": array for name, array in dense([1, 0]).items()}
    both |= {f"sparse/{name}": array for name, array in sparse({1: [(7, 1.0)], 0: [(8, np.nan)]}).items()}
    builder.add(both | {name: both[f"dense/{name}"] for name in ("positions", "n_tokens", "truncated")})
    assert builder.complete
    rows, ids = pa.array([0, 1], pa.int64()), pa.array(["a", "b"])
    first, second = (builder.table(number, rows, ids) for number in (0, 1))
    assert np.isnan(dense_vectors(first)[0]).all()
    assert dense_vectors(first)[1].tobytes() == vectors_of([1])[0].tobytes()
    assert second.column("indices").to_pylist() == [None, [7]]
    for made in (first, second):
        assert made.column("error").to_pylist() == ["a weight is not finite", None]


def both_of(positions: list[int]) -> dict[str, Any]:
    """A batch of a pass with a dense and a sparse vector."""
    parts = {"dense": dense(positions), "sparse": sparse({position: [(7, 1.0)] for position in positions})}
    named = {f"{form}/{name}": array for form, arrays in parts.items() for name, array in arrays.items()}
    return named | {name: parts["dense"][name] for name in ("positions", "n_tokens", "truncated")}


def heads_builder(rows: int) -> SegmentBuilder:
    return SegmentBuilder(
        rows, [Output("dense-m", "dense", "bge-m3"), Output("sparse-m", "sparse", "bge-m3")], [DIM, 0]
    )


def test_an_error_of_one_vector_leaves_the_others_of_its_row() -> None:
    builder = heads_builder(4)
    errors = [RowError(1, "too large", "sparse"), RowError(2, "no luck"), RowError(2, "too large", "sparse")]
    builder.add(both_of([3, 1, 2]), errors)
    builder.give_up(np.array([0], np.int32), "took its worker down")
    assert builder.quarantined == 3
    assert builder.errors == (
        {2: "no luck", 0: "took its worker down"},
        {1: "too large", 2: "too large", 0: "took its worker down"},
    )
    rows, ids = pa.array(range(4), pa.int64()), pa.array(list("abcd"))
    first, second = (builder.table(number, rows, ids) for number in (0, 1))
    assert first.column("vector").is_null().to_pylist() == [True, False, True, False]
    assert second.column("indices").to_pylist() == [None, None, None, [7]]
    assert second.column("error").to_pylist() == ["took its worker down", "too large", "too large", None]
    assert dense_vectors(first)[[1, 3]].tobytes() == vectors_of([1, 3]).tobytes()


def test_every_row_without_a_result_is_given_up() -> None:
    builder = dense_builder(4)
    builder.add(dense([1]))
    builder.give_up(np.array([3], np.int32), "took its worker down")
    builder.give_up_rest("the model cannot be loaded")
    assert builder.complete
    reasons = {0: "the model cannot be loaded", 2: "the model cannot be loaded", 3: "took its worker down"}
    assert builder.errors == (reasons,)


def test_an_error_of_a_vector_that_the_pass_does_not_make_is_refused() -> None:
    with pytest.raises(ProtocolError, match="an error of a multivector vector, which the pass does not make"):
        dense_builder(2).add(dense([0, 1]), [RowError(0, "too large", "multivector")])


def test_a_row_that_comes_again_is_as_it_came_last() -> None:
    builder = dense_builder(2)
    builder.add(dense([0, 1]), [RowError(0, "out of memory")])
    builder.give_up(np.array([0], np.int32), "took its worker down")
    assert builder.errors == ({0: "took its worker down"},)


@pytest.mark.parametrize(
    ("counts", "found"), [((2, None, 5, 0), (7, 0, 5)), ((None, None), (0, 0, 0)), ((), (0, 0, 0)), ((3,), (3, 3, 3))]
)
def test_token_vectors_are_counted_in_the_rows_that_have_some(counts: Any, found: tuple[int, int, int]) -> None:
    rows = [None if count is None else [[0.5] * DIM] * count for count in counts]
    field = vector_schema("multivector", DIM).field("vector")
    assert token_vectors(pa.table([pa.array(rows, field.type)], pa.schema([field]))) == TokenVectors(*found)
