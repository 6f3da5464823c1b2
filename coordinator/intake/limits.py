"""Limits of a chunk: beyond them, a later step would take too much memory, or could not read the chunk back."""

from __future__ import annotations

from typing import Any, cast

from ...protocol.text.refused_texts import text_fault
from ..reading.records import Raw

MAX_METADATA_CHARS = 16 << 20
MAX_NESTING = 64
"""Levels of arrays and objects in metadata. The collection accepts more than 120 and cannot be opened afterwards."""


def fault(data: bytes, extra: Raw | None, metadata: str | None) -> str | None:
    """Why a chunk with this text (UTF-8) and metadata (as an object and as JSON) is refused; None if it is accepted."""
    if (refused := text_fault(data)) is not None:
        return refused
    if metadata is None:
        return None
    if len(metadata) > MAX_METADATA_CHARS:
        return f"metadata of {len(metadata)} characters is over the limit of {MAX_METADATA_CHARS}"
    # Counting is cheap and nearly always enough: few brackets cannot be nested deeply.
    if metadata.count("[") + metadata.count("{") > MAX_NESTING and too_deep(extra):
        return TOO_DEEP
    return None


TOO_DEEP = f"metadata cannot be kept as JSON: nested more than {MAX_NESTING} deep"


def too_deep(value: Any) -> bool:
    """Whether `value` has more than MAX_NESTING levels. Works level by level, without the recursion it guards against."""
    level: list[Any] = [value]
    for _ in range(MAX_NESTING):
        level = [child for one in level for child in _children(one)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    """The arrays and objects in an array or object; a Parquet map is a list of tuples."""
    held = cast("list[Any]", value.values() if isinstance(value, dict) else value)
    return [one for one in held if isinstance(one, dict | list | tuple)]
