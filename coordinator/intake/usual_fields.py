"""Usual fields of records: where to look for a text, an id and a title, and which values count."""

from __future__ import annotations

from typing import Any, cast

from ...protocol.source.json_head import TEXT_FIELDS
from ..reading.records import MAX_ID_CHARS, Raw, Reject, excerpt, kind, too_long_id
from .extended_json import plain_values
from .field_paths import Place

ID_FIELDS = ("chunk_id", "element_id", "id", "_id", "id_", "docid")
"""Tried in this order, first at the top level, then inside `metadata`: a chunk's own id before its document's."""
TITLE_FIELD = "title"

EXACT = 1 << 53
"""Whole doubles below it are exact."""

_ID_FIELDS = frozenset(ID_FIELDS)


def usual_text(record: Raw) -> Place | None:
    """The first text field that is not null, else one that is null; None if there is no text field."""
    for key in TEXT_FIELDS:
        if record.get(key) is not None:
            return record, key
    return next(((record, key) for key in TEXT_FIELDS if key in record), None)


def usual_id(fields: Raw) -> str | None:
    """The first of ID_FIELDS that is not null. A numeric `chunk_id` comes last: it may be a position in a document."""
    if _ID_FIELDS.isdisjoint(fields):
        return None
    chunk = fields.get("chunk_id")
    if chunk is not None and not _is_number(chunk):
        return "chunk_id"
    for key in ID_FIELDS[1:]:
        if fields.get(key) is not None:
            return key
    return "chunk_id" if chunk is not None else None


def _is_number(value: Any) -> bool:
    return not isinstance(value, str | bytes) or value.isdigit()


def has_id(nested: Any) -> bool:
    """Whether `nested` is an object with one of ID_FIELDS."""
    return type(nested) is dict and not _ID_FIELDS.isdisjoint(nested)


def as_id(key: str, value: Any, record: Raw) -> str | Reject:
    """A value as an id: a string, an exact whole number, UTF-8 bytes, or one of these as a typed value of MongoDB."""
    if type(value) is dict:
        value = plain_values(value)
    elif type(value) is bytes:
        value = decoded(value) if decoded(value) is not None else value
    if type(value) is str:
        if len(value) > MAX_ID_CHARS:
            return too_long_id(key, value)
        return value or Reject(f"id field {key!r} is empty", excerpt(record))
    if type(value) is int:
        return str(value)
    if isinstance(value, float) and value.is_integer():
        if abs(value) < EXACT:
            return str(int(value))
        # A whole number over 64 bits comes out of the JSON parser as a float: its exact value is lost.
        reason = f"is a number too large to be read exactly ({value!r}); write numbers over 64 bits as strings"
        return Reject(f"id field {key!r} {reason}", excerpt(record))
    shown = f" ({value!r})" if isinstance(value, float) else ""
    return Reject(f"id field {key!r} is {value_type(value)}, not a string or an integer{shown}", excerpt(record))


def as_title(value: Any) -> str | None:
    """The text of a title; None if it has none."""
    if isinstance(value, bytes):
        value = decoded(value)
    return value if isinstance(value, str) and value.strip() else None


def decoded(value: bytes) -> str | None:
    """Bytes as text; None if they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def value_type(value: Any) -> str:
    """The type of a value that should be text, for a message."""
    if not isinstance(value, bytes):
        return kind(value)
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"bytes that are not UTF-8 (the one at {error.start})"
    return "bytes"


def is_element(record: Raw) -> bool:
    """Whether a record without text is an element of Unstructured, such as a page break: it is skipped, not rejected."""
    return record.get("type") == "PageBreak" or ("element_id" in record and "type" in record)


def field_names(record: Raw, before: str = "") -> list[str]:
    """The names of a record's fields as flags take them, with dots for fields inside of objects."""
    names: list[str] = []
    for key, value in record.items():
        if isinstance(value, dict) and value and not before:
            names += field_names(cast("Raw", value), f"{key}.")
        else:
            names.append(f"{before}{key}")
    return names
