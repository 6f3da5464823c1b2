"""`NAME.sparse.jsonl`: the sparse vectors of a pass, one per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.vector_rows import Indices, SparseVector, Weights
from .exported_file import ExportedFile, describe
from .lines import write_lines


class SparseLine(TypedDict):
    """One row."""

    row: int
    id: str
    indices: Indices
    values: Weights
    stood_in: bool


def write_sparse_jsonl(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """`{"row", "id", "indices", "values", "stood_in"}`; a quarantined row has no line, a chunk without terms empty lists.

    `stood_in`: the weights are those of the chunk's metadata, since the model gave none.
    """
    for name, shape in run.shapes().items():
        if shape.form == "sparse":
            path = folder / f"{name}.sparse.jsonl"
            yield describe(path, "sparse-jsonl", write_lines(path, _records(run, name)))


def _records(run: DoneRun, name: str) -> Iterator[SparseLine]:
    for one in run.vectors(name):
        if isinstance(one.vector, SparseVector):
            indices, values = one.vector.indices, one.vector.values
            yield SparseLine(row=one.row, id=one.id, indices=indices, values=values, stood_in=one.stood_in)
