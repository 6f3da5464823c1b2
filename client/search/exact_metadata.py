"""Numbers of the metadata as the source has them: the engine reads its doubles from JSON, and may be off by the last bit."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout, segments_in

Payload = Mapping[str, Any]


def exact_metadata(layout: RunLayout, payloads: Mapping[int, Payload]) -> dict[int, Any]:
    """By row, the metadata of these payloads, each that has a double as its chunk segment has it.

    What the segments do not tell stays as the engine has it: they may be gone, or torn.
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
    """By row, the metadata of the chunks `wanted`, which have these ids."""
    if not wanted:
        return {}
    from ...protocol.run_directory.segment_info import ChunkSegmentInfo
    from ...protocol.run_directory.tables import read_info  # late, as the next line: they bring Arrow
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
