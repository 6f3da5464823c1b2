"""Results: what the worker of a pass sent for some texts, as Arrow columns in the order of the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...protocol.finished_run.table_batches import TableColumns
from ...protocol.spec.run_spec import Output
from ...protocol.vectors.unit_length import not_normalized
from ...protocol.wire.arrays import Array
from ...protocol.wire.work import RowError

Bools = npt.NDArray[np.bool_]


class Results:
    """Results of `count` texts, for every output of a pass. `dims` are the dimensions of each output; 0 where it has none."""

    def __init__(self, count: int, outputs: Sequence[Output], dims: Sequence[int]) -> None:
        self._count, self._outputs = count, tuple(zip(outputs, dims, strict=True))
        self._parts: list[tuple[Array, Mapping[str, Array]]] = []
        self._errors: dict[str, dict[int, str]] = {one.vector: {} for one in outputs}

    def add(self, rows: Array, arrays: Mapping[str, Array], errors: Sequence[RowError]) -> None:
        """Add the result of a batch, whose shapes were checked."""
        self._parts.append((rows, arrays))
        for error in errors:
            for output, _ in self._outputs:
                if error.output in (None, output.form):
                    self._errors[output.vector][int(rows[error.position])] = error.reason

    def give_up(self, reasons: Mapping[int, str]) -> None:
        """Set the reason of rows that have no result."""
        for errors in self._errors.values():
            errors.update(reasons)

    def columns(self) -> dict[str, Any]:
        """An Arrow array for each column, with the names and types of a table of a run; null for a row without a value."""
        found: dict[str, Any] = {}
        for output, dim in self._outputs:
            schema = TableColumns((), ((output, dim),)).schema
            arrays = self._arrays(output, dim)  # may find more errors
            for field, array in zip(schema, arrays, strict=True):
                found[field.name] = array if array.type == field.type else array.cast(field.type)
        return found

    def reasons(self) -> dict[str, dict[int, str]]:
        """By vector, the reason of each row that lacks it. Complete after `columns`."""
        return self._errors

    def _arrays(self, output: Output, dim: int) -> list[Any]:
        match output.form:
            case "dense":
                return [self._dense(output, dim)]
            case "score":
                return [self._scores(output)]
            case "sparse":
                return self._lists(output, ("indices", "values"))
            case "multivector":
                return self._lists(output, ("tokens",), dim)

    def _own(self, arrays: Mapping[str, Array], output: Output, name: str) -> Array:
        return arrays[f"{output.form}/{name}" if len(self._outputs) > 1 else name]

    def _dense(self, output: Output, dim: int) -> Any:
        vectors, errors = np.zeros((self._count, dim), np.float32), self._errors[output.vector]
        for rows, arrays in self._parts:
            found = self._own(arrays, output, "vector")
            vectors[rows] = found
            for position, reason in not_normalized(found):
                errors.setdefault(int(rows[position]), reason)
        mask = self._missing(output)
        vectors[mask] = 0
        return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim, mask=_masked(mask))

    def _scores(self, output: Output) -> Any:
        scores, errors = np.zeros(self._count, np.float32), self._errors[output.vector]
        for rows, arrays in self._parts:
            scores[rows] = self._own(arrays, output, "score")
        for row in np.flatnonzero(~np.isfinite(scores)).tolist():
            errors.setdefault(row, "the score is not finite")
        return pa.array(scores, mask=self._missing(output))

    def _lists(self, output: Output, names: Sequence[str], dim: int = 0) -> list[Any]:
        """The lists of each row, one Arrow array for each of the `names`."""
        order = np.concatenate([rows for rows, _ in self._parts]) if self._parts else np.empty(0, np.int32)
        sizes = np.zeros(len(order), np.int64)
        np.concatenate(
            [np.diff(self._own(arrays, output, "offsets")) for _, arrays in self._parts] or [sizes], out=sizes
        )
        flats = [self._flat(output, name, dim) for name in names]
        self._note_infinite(output, order, sizes, flats[-1])
        mask = self._missing(output)
        if mask.any():  # a null has no items
            kept = np.repeat(~mask[order], sizes)
            flats, sizes = [flat[kept] for flat in flats], np.where(mask[order], 0, sizes)
        places = np.full(self._count, -1, np.int64)
        places[order] = np.arange(len(order))
        return [_in_order(flat, sizes, places, mask) for flat in flats]

    def _flat(self, output: Output, name: str, dim: int) -> Array:
        """The items of all batches; token vectors as a run stores them, in float16."""
        parts = [self._own(arrays, output, name) for _, arrays in self._parts]
        flat = np.concatenate(parts) if parts else np.empty((0, dim) if dim else 0, np.float32)
        return flat.astype(np.float16).astype(np.float32) if name == "tokens" else flat

    def _note_infinite(self, output: Output, order: Array, sizes: Array, flat: Array) -> None:
        """Note the rows with an item that is not finite."""
        finite = np.isfinite(flat)
        bad = np.flatnonzero(~(finite.all(axis=1) if flat.ndim == 2 else finite))
        what = "a weight" if output.form == "sparse" else "a component"
        for place in np.unique(np.searchsorted(np.cumsum(sizes), bad, side="right")).tolist():
            self._errors[output.vector].setdefault(int(order[place]), f"{what} is not finite")

    def _missing(self, output: Output) -> Bools:
        mask = np.zeros(self._count, np.bool_)
        mask[list(self._errors[output.vector])] = True
        return mask


def _masked(mask: Bools) -> Any:
    """A mask for Arrow; None if nothing is missing."""
    return pa.array(mask) if mask.any() else None


def _in_order(flat: Array, sizes: Array, places: Array, mask: Bools) -> Any:
    """Lists of `sizes` items of `flat`, in the order of `places`; -1 is a row without a list."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int32)
    items: Any = pa.array(flat.reshape(-1))
    if flat.ndim == 2:
        inner = np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1]
        items = pa.ListArray.from_arrays(pa.array(inner), items)
    lists = pa.ListArray.from_arrays(pa.array(offsets), items)
    wanted = lists.take(pa.array(places, mask=places < 0))
    return pa.ListArray.from_arrays(wanted.offsets, wanted.values, mask=_masked(mask)) if mask.any() else wanted
