"""`metadata.jsonl`: the metadata of each chunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import orjson

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.segment_stream import stream_batches
from .exported_file import ExportedFile, describe
from .lines import write_lines


class MetadataLine(TypedDict):
    """The metadata of one chunk."""

    row: int
    id: str
    metadata: orjson.Fragment


def write_metadata(run: DoneRun, folder: Path) -> Iterator[ExportedFile]:
    """`{"row", "id", "metadata"}` for every row; `{}` if the chunk has no metadata."""
    path = folder / "metadata.jsonl"
    yield describe(path, "metadata", write_lines(path, _records(run)))


def _records(run: DoneRun) -> Iterator[MetadataLine]:
    for segment in run.segments:
        for batch in stream_batches(run.layout.chunk_segment(segment), ("row", "id", "metadata")):
            for record in batch.to_pylist():
                # already JSON: written unchanged
                yield MetadataLine(
                    row=record["row"], id=record["id"], metadata=orjson.Fragment(record["metadata"] or "{}")
                )
