"""One segment of one pass, assembled from the results of its batches, which come in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.errors import ProtocolError
from ...protocol.run_directory.tables import TOKENS_CUT, vector_schema
from ...protocol.spec.run_spec import Form, Output
from ...protocol.wire.arrays import Array
from ...protocol.wire.work import RowError
from .columns import Bools, Column, DenseColumn, make_column


class SegmentBuilder:
    """Rows of a segment, for every output of its pass; `complete` once each has a result or a reason.

    `dims` are the dimensions of each output (0 where it has none). Where a pass has several outputs, the arrays of a
    result carry the output's form before their name: `dense/vector`.
    """

    def __init__(self, rows: int, outputs: Sequence[Output], dims: Sequence[int]) -> None:
        self.rows, self.outputs = rows, tuple(outputs)
        self.errors: tuple[dict[int, str], ...] = tuple({} for _ in outputs)
        """For each output, the rows without a vector and the reason of each."""
        self.from_metadata: set[int] = set()
        """Rows that have the weights of their metadata."""
        self.unusable: set[int] = set()
        """Rows whose metadata has some weight that cannot be used."""
        self._missing = np.ones(rows, np.bool_)
        self._n_tokens = np.zeros(rows, np.int32)
        self._truncated = np.zeros(rows, np.bool_)
        self._tokens_cut = np.zeros(rows, np.int32)
        """-1 if they were not counted."""
        self._dims = tuple(dims)
        self._columns = [
            make_column(one.form, rows, dim, one.storage, one.ranges) for one, dim in zip(outputs, dims, strict=True)
        ]

    @property
    def complete(self) -> bool:
        return not self._missing.any()

    @property
    def quarantined(self) -> int:
        """How many rows lack the vector of some output."""
        return len(set[int]().union(*self.errors))

    @property
    def tokens(self) -> int:
        return int(self._n_tokens.sum(dtype=np.int64))

    @property
    def truncated(self) -> int:
        """How many rows had their text cut."""
        return int(np.count_nonzero(self._truncated))

    @property
    def tokens_cut(self) -> int | None:
        """How many tokens were cut; None if they were not counted for every row."""
        return None if (self._tokens_cut < 0).any() else int(self._tokens_cut.sum(dtype=np.int64))

    def column(self, number: int) -> Column:
        """The vectors of one output."""
        return self._columns[number]

    def add(self, arrays: Mapping[str, Array], errors: Sequence[RowError] = ()) -> None:
        """Take the results and errors of a batch. ProtocolError for arrays that do not fit."""
        try:
            self._add(arrays["positions"], arrays, errors)
        except KeyError as error:
            raise ProtocolError(f"a result without the array {error}") from None

    def _add(self, positions: Array, arrays: Mapping[str, Array], errors: Sequence[RowError]) -> None:
        self._check_positions(positions)
        count = len(positions)
        by_row = [arrays["n_tokens"], arrays["truncated"], arrays.get("tokens_cut", positions)]
        if any(len(one) != count for one in by_row):
            raise ProtocolError(f"a result of {count} rows with arrays of another length")
        self._n_tokens[positions] = arrays["n_tokens"]
        self._truncated[positions] = arrays["truncated"].astype(np.bool_)
        counted = arrays.get("tokens_cut")  # a worker of 0.1.0 does not count them
        self._tokens_cut[positions] = counted if counted is not None else -self._truncated[positions].astype(np.int32)
        for output, column in zip(self.outputs, self._columns, strict=True):
            for position, reason in column.set(positions, self._own(arrays, output)):
                for found in self.errors:
                    found.setdefault(int(positions[position]), reason)
        for error in errors:
            if not 0 <= error.position < count:
                raise ProtocolError(f"an error for text {error.position} of a batch of {count}")
            self._fail(int(positions[error.position]), error.reason, error.output)
        self._missing[positions] = False

    def give_up(self, positions: npt.NDArray[np.int32], reason: str) -> None:
        """Mark rows that get no result."""
        self._check_positions(positions)
        for position in positions.tolist():
            self._fail(position, reason)
        self._missing[positions] = False

    def give_up_rest(self, reason: str) -> None:
        """Mark every row without a result."""
        self.give_up(np.flatnonzero(self._missing).astype(np.int32), reason)

    def _fail(self, row: int, reason: str, form: Form | None = None) -> None:
        """Mark the row as without a vector of this form, or without any."""
        found = [errors for one, errors in zip(self.outputs, self.errors, strict=True) if form in (None, one.form)]
        if not found:
            raise ProtocolError(f"an error of a {form} vector, which the pass does not make")
        for errors in found:
            errors[row] = reason

    def table(self, number: int, rows: Any, ids: Any) -> pa.Table:
        """One output of the segment as a table, with the `row` and `id` columns of its chunks."""
        column, errors = self._columns[number], self.errors[number]
        columns = {
            "row": rows,
            "id": ids,
            **column.fields(self._bad(number)),
            "n_tokens": pa.array(self._n_tokens),
            "truncated": pa.array(self._truncated),
            "error": pa.array([errors.get(row) for row in range(self.rows)], pa.string()),
        }
        if self.outputs[number].form == "sparse":
            columns["stood_in"] = pa.array([row in self.from_metadata for row in range(self.rows)])
        uncounted = self._tokens_cut < 0
        columns[TOKENS_CUT.name] = pa.array(self._tokens_cut, mask=uncounted if uncounted.any() else None)
        output = self.outputs[number]
        form, dim = output.form, self._dims[number]
        dense = isinstance(column, DenseColumn)
        schema = vector_schema(form, dim, column.storage, column.ranges) if dense else vector_schema(form, dim)
        schema = schema.append(TOKENS_CUT)
        return pa.Table.from_arrays(
            [_as_type(columns[name], schema.field(name).type) for name in schema.names], schema=schema
        )

    def _bad(self, number: int) -> Bools:
        bad = np.zeros(self.rows, np.bool_)
        bad[list(self.errors[number])] = True
        return bad

    def _own(self, arrays: Mapping[str, Array], output: Output) -> Mapping[str, Array]:
        if len(self.outputs) == 1:
            return arrays
        prefix = f"{output.form}/"
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    def _check_positions(self, positions: Array) -> None:
        if len(positions) and (int(positions.min()) < 0 or int(positions.max()) >= self.rows):
            raise ProtocolError(f"a result for a row outside its segment of {self.rows} rows")


def _as_type(column: Any, kind: Any) -> Any:
    """The column in this type. Arrow's casts are in pyarrow.compute, whose import is left out where nothing changes."""
    return column if column.type == kind else column.cast(kind)
