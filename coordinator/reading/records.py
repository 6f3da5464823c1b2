"""Types of records before they become chunks (rejected, noted), and texts for messages about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

EXCERPT_CHARS = 200
MAX_ID_CHARS = 16_384
"""Longer than any path or URL. Ids are kept in memory, in every segment and in messages."""

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot become a chunk, with the reason; `excerpt` helps people to find it."""

    reason: str
    excerpt: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """A record with `notes` (see `protocol/source/intake_notes.py`) on what was changed; None for a skipped one."""

    record: Raw | None
    notes: tuple[str, ...]


Item = Raw | Reject | Noted
Numbered = list[tuple[int, Item]]
"""Items with the numbers of their records in the file, ascending."""

Fields = tuple[str | None, str, Raw | None, tuple[str, ...]]
"""Id, None where the record has none; text; metadata, None where there is none; notes."""


def excerpt(value: Any) -> str:
    """The first 200 characters of a line, a text or a record, safe to write as UTF-8."""
    if isinstance(value, bytes):
        return value[: 4 * EXCERPT_CHARS].decode("utf-8", "replace")[:EXCERPT_CHARS]
    if isinstance(value, str):
        return value[:EXCERPT_CHARS].encode("utf-8", "replace").decode()
    try:
        return excerpt(orjson.dumps(value, default=plain))
    except (TypeError, RecursionError):
        return ""


def plain(value: Any) -> Any:
    """A value without a JSON type, as a string."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def too_long_id(key: str, value: str) -> Reject:
    """The rejection of an id of more than MAX_ID_CHARS characters."""
    return Reject(f"id field {key!r} has {len(value)} characters, over the limit of {MAX_ID_CHARS}", excerpt(value))


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def kind(value: Any) -> str:
    """The JSON name of a value's type, for a message."""
    return _KINDS.get(type(value), f"of type {type(value).__name__}")
