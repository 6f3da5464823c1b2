"""`points.jsonl`: each line a point as Qdrant's REST API takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.vector_rows import Array, Indices, SparseVector, Vector, Weights
from .exported_file import ExportedFile, describe
from .lines import write_lines

NAME = "points.jsonl"


class SparseWeights(TypedDict):
    """A sparse vector."""

    indices: Indices
    values: Weights


def write_jsonl(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """`{"id", "vector": {name: […] | [[…], …] | {"indices", "values"}}, "payload": {…}}`; of the payload, see `Point`."""
    path = folder / NAME
    lines = ({"id": one.id, "vector": _plain(one.vectors), "payload": one.payload} for one in run.points())
    yield describe(path, "jsonl", write_lines(path, lines))


def _plain(vectors: Mapping[str, Vector]) -> dict[str, SparseWeights | Array]:
    return {
        name: SparseWeights(indices=one.indices, values=one.values) if isinstance(one, SparseVector) else one
        for name, one in vectors.items()
    }
