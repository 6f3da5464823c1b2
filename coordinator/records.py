"""From a raw record to the id, text and metadata of a chunk, or to the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

TEXT_FIELDS = ("text", "page_content", "content")
ID_FIELDS = ("id", "chunk_id", "_id", "id_")
"""Looked for in this order, at the top level first and then inside `metadata`."""

EXCERPT_CHARS = 200
MAX_ID_CHARS = 16_384
"""Longer than any path or URL; an id stands in memory, in every segment and in messages."""

Raw = dict[str, Any]
Fields = tuple[str | None, str, Raw | None]
"""Id, None where the record has none; text; metadata, None where there is none."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that cannot become a chunk, and why; `excerpt` lets a person find it again."""

    reason: str
    excerpt: str = ""
    id: str | None = None


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
    """What JSON has no type for, as a string: for values of Parquet columns."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def read_record(record: Raw, text_field: str | None = None, id_field: str | None = None) -> Fields | Reject:
    """Find id, text and metadata by convention, or in the fields named. `record` is used up.

    A BEIR record (`_id`, `title`, `text`) has its title put before its text, unless a text field is named.
    """
    metadata = record.get("metadata")
    nested: Raw = metadata if isinstance(metadata, dict) else {}
    id_key, id_ = _find_id(record, nested, id_field)
    if isinstance(id_, Reject):
        return id_
    text_key, text = _find_text(record, text_field)
    if not isinstance(text, str):
        return Reject(_text_reason(text_key, text, text_field), excerpt(record), id_)
    if text_field is None and text_key == "text" and "_id" in record:
        title = record.get("title")
        if isinstance(title, str) and title:
            text = f"{title} {text}"

    # The record becomes the metadata: what is left of it when text, id and the nested object are taken out.
    del record[text_key]
    if id_key is not None:
        record.pop(id_key, None)
    if nested or metadata is None or metadata == {}:
        record.pop("metadata", None)
    if nested:
        record = {**record, **nested} if record else nested
    return id_, text, record or None


def _find_text(record: Raw, text_field: str | None) -> tuple[str, Any]:
    """The field with the text and what it holds; a field that is null counts only where there is no better one."""
    fields = TEXT_FIELDS if text_field is None else (text_field,)
    for key in fields:
        if (text := record.get(key)) is not None:
            return key, text
    return next((key for key in fields if key in record), ""), None


def _text_reason(key: str, text: Any, text_field: str | None) -> str:
    if key:
        return f"text field {key!r} is {kind(text)}, not a string"
    if text_field is not None:
        return f"no text: the record has no field {text_field!r}"
    return "no text: the record has none of 'text', 'page_content', 'content'"


def _find_id(record: Raw, nested: Raw, id_field: str | None) -> tuple[str | None, str | Reject | None]:
    """The top-level field used, None where it is none, and the id."""
    fields = ID_FIELDS if id_field is None else (id_field,)
    for key in fields:
        if (value := record.get(key)) is not None:
            return key, _as_id(key, value, record)
    for key in fields:
        if (value := nested.get(key)) is not None:
            return None, _as_id(f"metadata.{key}", value, record)
    if id_field is not None:
        return None, Reject(f"no id: the record has no field {id_field!r}", excerpt(record))
    return None, None


def _as_id(key: str, value: Any, record: Raw) -> str | Reject:
    if type(value) is str:
        if len(value) > MAX_ID_CHARS:
            return Reject(
                f"id field {key!r} has {len(value)} characters, over the limit of {MAX_ID_CHARS}", excerpt(value)
            )
        if value.isascii():
            return value or Reject(f"id field {key!r} is empty", excerpt(record))
        try:
            value.encode()
        except UnicodeEncodeError:
            return Reject(f"id field {key!r} holds a lone surrogate", excerpt(record))
        return value
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) >= 2.0**63:
        # A whole number over 64 bits comes out of the JSON parser as a float: which number it was, nobody knows any more.
        reason = f"is a number too large to be read exactly ({value!r}); write numbers over 64 bits as strings"
        return Reject(f"id field {key!r} {reason}", excerpt(record))
    shown = f" ({value!r})" if isinstance(value, float) else ""
    return Reject(f"id field {key!r} is {kind(value)}, not a string or an integer{shown}", excerpt(record))


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
