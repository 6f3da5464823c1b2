"""`collection.json`: describes the collection for the points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from ...protocol.finished_run.done_run import DoneRun
from ...protocol.index.collection import Quantization, collection_name, collection_schema
from ...protocol.index.query_encoding import query_encodings
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.source.numbered_ids import NumberedIds
from .exported_file import ExportedFile, describe


def write_collection(run: DoneRun, folder: Path, quantization: Quantization) -> Iterator[ExportedFile]:
    """`{"name", "points", "source_files", "create", "encoding"}`.

    `create` is the body of Qdrant's `PUT /collections/{name}`, and `encoding` says by vector how its queries are encoded.
    """
    path = folder / run.layout.collection.name
    content = {
        "name": collection_name(run.layout.root),
        "points": run.rows,
        "source_files": sorted(NumberedIds(run.layout).files),
        "create": collection_schema(run, quantization),
        "encoding": query_encodings(run.layout, run.spec),
    }
    commit_bytes(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    yield describe(path, "collection", 0)
