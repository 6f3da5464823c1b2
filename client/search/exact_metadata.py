"""Exact numbers of the metadata: the engine parses doubles from JSON, and its result may be off by the last bit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout, segments_in

Payload = Mapping[str, Any]


def exact_metadata(layout: RunLayout, payloads: Mapping[int, Payload]) -> dict[int, Any]:
    """By row, the metadata of `payloads`. Metadata with a double is read from the chunk segment.

    If the segment is missing or torn, the engine's metadata is kept.
    """
    found = {row: one.get("metadata") or {} for row, one in payloads.items()}
    doubtful = {row: payloads[row]["id"] for row, metadata in found.items() if _has_double(metadata)}
    with contextlib.suppress(RunDirectoryError, msgspec.MsgspecError):
        for row, metadata in _stored(layout, doubtful).items():
            found[row] = metadata
    return found


def _has_double(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_has_double, value)) if isinstance(value, list) else isinstance(value, float)


def _stored(layout: RunLayout, wanted: Mapping[int, str]) -> dict[int, Any]:
    """By row, the metadata in the chunk segments. `wanted` has the ids by row; a row with another id is left out."""
    if not wanted:
        return {}
    from ...protocol.run_directory.segment_info import ChunkSegmentInfo
    from ...protocol.run_directory.tables import read_info  # late, as the next line: they import Arrow
    from ..run_directory.files import read_table

    found: dict[int, Any] = {}
    last = max(wanted)
    for segment in segments_in(layout.chunks):
        path = layout.chunk_segment(segment)
        info = read_info(path, ChunkSegmentInfo)
        if info.first_row > last:
            break
        rows = [row for row in wanted if info.first_row <= row < info.first_row + info.rows]
        if not rows:
            continue
        table: Any = read_table(path, ("id", "metadata"))
        for row in rows:
            place = row - info.first_row
            if table.column("id")[place].as_py() == wanted[row]:
                found[row] = msgspec.json.decode(table.column("metadata")[place].as_py() or "{}")
    return found
