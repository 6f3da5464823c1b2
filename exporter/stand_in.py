"""Sparse weights from the chunk's metadata, where the model gave none."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow.parquet as pq

from ..protocol.layout import RunLayout
from ..protocol.spec import Kind
from ..protocol.terms import metadata_weights
from .columns import SparseColumn
from .segment_builder import SegmentBuilder


def stand_in(layout: RunLayout, kind: Kind, segment: int, builder: SegmentBuilder) -> None:
    """Replace errors of the segment by metadata weights where the chunks have them, and mark those rows.

    A row without such weights keeps its error, except where the metadata was all that was asked for: it then has an
    empty vector, which is the truth.
    """
    column = builder.column(0)
    if not builder.errors or not isinstance(column, SparseColumn):
        return
    with pq.ParquetFile(layout.chunk_segment(segment)) as file:
        stored: Any = file.read(columns=["metadata"]).column("metadata")
    for row in sorted(builder.errors):
        raw = stored[row].as_py()
        weights = metadata_weights(orjson.loads(raw)) if raw else None
        if weights is not None:
            column.put(row, *weights)
            builder.stood_in.add(row)
        if weights is not None or kind == "metadata":
            del builder.errors[row]
