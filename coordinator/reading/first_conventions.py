"""Read records as version 0.1.0 did (policy `nfc-strip-1`), so that runs begun by 0.1.0 can be resumed and checked.

Nothing here may change: it decides which records become rows, and under which ids.
"""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa

from .line_reader import MAX_LINE_BYTES, OversizedLine
from .records import MAX_ID_CHARS, Fields, Numbered, Raw, Reject, excerpt, kind, plain, too_long_id

TEXT_FIELDS = ("text", "page_content", "content")
ID_FIELDS = ("id", "chunk_id", "_id", "id_")
"""Tried in this order, first at the top level, then inside `metadata`."""

First = tuple[str | None, str, Raw | None]
"""Id, None where the record has none; text; metadata, None where there is none."""


class FirstConventions:
    """Reads records by the conventions of 0.1.0, or by the fields that flags name."""

    def __init__(self, text_field: str | None, id_field: str | None) -> None:
        self._fields = text_field, id_field
        self.met: list[str] = []
        """Always empty: 0.1.0 noted nothing."""

    def read(self, record: Raw) -> Fields | Reject:
        """Id, text and metadata of a record; changes the record in place."""
        fields = read_record(record, *self._fields)
        return fields if isinstance(fields, Reject) else (*fields, ())

    def with_folder(self, metadata: Raw | None, collection: str) -> tuple[Raw, tuple[str, ...]]:
        """The metadata with the name of the file's folder, and no notes."""
        return {"collection": collection, **(metadata or {})}, ()

    def write(self, metadata: Raw) -> str:
        """The metadata as JSON; TypeError where it is too deep."""
        return orjson.dumps(metadata, default=plain).decode()


def parse_line(line: bytes | OversizedLine) -> Raw | Reject:
    """The object on a line, or the reason why there is none."""
    if isinstance(line, OversizedLine):
        reason = f"line of {line.n_bytes} bytes is over the limit of {MAX_LINE_BYTES}"
        return Reject(reason, excerpt(line.head))
    try:
        return as_record(orjson.loads(line))
    except (orjson.JSONDecodeError, RecursionError) as error:
        return Reject(why_not_json(line, error), excerpt(line))


def as_record(value: Any) -> Raw | Reject:
    """The value if it is an object, else a Reject."""
    return value if type(value) is dict else Reject(f"record is {kind(value)}, not an object", excerpt(value))


def why_not_json(data: bytes, error: Exception) -> str:
    """Why these bytes could not be parsed."""
    try:
        data.decode()
    except UnicodeDecodeError as bad:
        return f"invalid UTF-8 at byte {bad.start}"
    return f"not JSON: {error}"


def rows(batch: pa.RecordBatch, first: int) -> Numbered:
    """The rows of a batch of Parquet, numbered from `first`."""
    try:
        return list(enumerate(batch.to_pylist(), first))
    except (ValueError, OverflowError):  # text that is not UTF-8, a date beyond what Python has
        return [(first + row, _row(batch.slice(row, 1))) for row in range(batch.num_rows)]


def _row(batch: pa.RecordBatch) -> Raw | Reject:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Reject(f"invalid UTF-8 at byte {error.start}", excerpt(error.object))
    except (ValueError, OverflowError) as error:
        return Reject(f"row cannot be read ({error})")


def read_record(record: Raw, text_field: str | None = None, id_field: str | None = None) -> First | Reject:
    """Find id, text and metadata by convention, or in the fields named. `record` is changed in place.

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

    # What is left of the record without text, id and the nested object becomes the metadata.
    del record[text_key]
    if id_key is not None:
        record.pop(id_key, None)
    if nested or metadata is None or metadata == {}:
        record.pop("metadata", None)
    if nested:
        record = {**record, **nested} if record else nested
    return id_, text, record or None


def _find_text(record: Raw, text_field: str | None) -> tuple[str, Any]:
    """The field with the text, and its value. A null field counts only if no other has a value."""
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
    """The top-level field with the id (None if it is elsewhere), and the id."""
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
            return too_long_id(key, value)
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
        # A whole number over 64 bits comes out of the JSON parser as a float: its exact value is lost.
        reason = f"is a number too large to be read exactly ({value!r}); write numbers over 64 bits as strings"
        return Reject(f"id field {key!r} {reason}", excerpt(record))
    shown = f" ({value!r})" if isinstance(value, float) else ""
    return Reject(f"id field {key!r} is {kind(value)}, not a string or an integer{shown}", excerpt(record))
