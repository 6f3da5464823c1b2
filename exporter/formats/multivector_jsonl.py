"""`NAME.multivector.jsonl`: the multivectors of a pass, one per line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...protocol.finished_run.done_run import DoneRun
from .exported_file import ExportedFile, describe
from .lines import write_lines


def write_multivector_jsonl(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """`{"row", "id", "vectors"}`, with one vector per token in `vectors`; a quarantined row has no line."""
    for name, shape in run.shapes().items():
        if shape.form == "multivector":
            path = folder / f"{name}.multivector.jsonl"
            standing = (one for one in run.vectors(name) if one.vector is not None)
            lines = ({"row": one.row, "id": one.id, "vectors": one.vector} for one in standing)
            yield describe(path, "multivector-jsonl", write_lines(path, lines))
