"""The metadata fallback: sparse weights from the chunk's metadata, where the model gave none."""

from __future__ import annotations

from typing import Any

import orjson

from ...protocol.run_directory.chunk_columns import read_chunk_columns
from ...protocol.run_directory.layout import RunLayout
from ...protocol.spec.run_spec import PassSpec
from ...protocol.vectors.metadata_terms import Weights, query_weights, read_weights
from .builder import SegmentBuilder
from .columns import SparseColumn


def fill_from_metadata(layout: RunLayout, one: PassSpec, segment: int, builder: SegmentBuilder) -> None:
    """Replace errors of the segment's sparse vectors by metadata weights where the chunks have them, and mark those rows.

    A row without such weights keeps its error; in a pass of kind `metadata`, its vector is empty instead. Weights that cannot
    be used are an error, or are added to it. Queries have no such metadata: their own words are used.
    """
    for place, errors in enumerate(builder.errors):
        column = builder.column(place)
        if errors and isinstance(column, SparseColumn):
            _replace(layout, one, segment, builder, column, errors)


def _replace(
    layout: RunLayout,
    one: PassSpec,
    segment: int,
    builder: SegmentBuilder,
    column: SparseColumn,
    errors: dict[int, str],
) -> None:
    field = "metadata" if one.side == "document" else "text"
    stored: Any = read_chunk_columns(layout, segment, (field,)).column(field)
    for row in sorted(errors):
        weights, fault = _weights(one, stored[row].as_py())
        if fault:
            builder.unusable.add(row)
        if weights is not None:
            column.put(row, *weights)
            builder.from_metadata.add(row)
            del errors[row]
        elif fault:
            errors[row] = fault if one.kind == "metadata" else f"{errors[row]}; {fault}"
        elif one.kind == "metadata":
            del errors[row]


def _weights(one: PassSpec, stored: str | None) -> tuple[Weights | None, str]:
    if not stored:
        return None, ""
    return (query_weights(stored), "") if one.side == "query" else read_weights(orjson.loads(stored))
