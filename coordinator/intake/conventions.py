"""Turn a raw record into the id, text and metadata of a chunk, or into the reason why it is rejected.

Fields are found by convention, or named by flags. These are the rules of policy `nfc-blank-2`, described in
`docs/sources.md`. A run of 0.1.0 keeps those of `first_conventions.py`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, cast

import orjson

from ...protocol.source.intake_notes import BYTES_AS_BASE64, ELEMENTS_SKIPPED, OUTER_KEPT, TITLE_JOINED
from ...protocol.source.json_head import TEXT_FIELDS
from ...protocol.spec.run_spec import NONE, RunSpec
from ...protocol.text.preprocessing import FIRST
from ..reading.first_conventions import FirstConventions
from ..reading.records import MAX_ID_CHARS, Fields, Noted, Raw, Reject, excerpt, kind, too_long_id
from .envelopes import PREFIXES, Opened, open_envelope
from .extended_json import plain_values
from .field_paths import FieldPath

ID_FIELDS = ("chunk_id", "element_id", "id", "_id", "id_", "docid")
"""Looked for in this order, at the top level first and then inside `metadata`: a chunk's own id before its document's."""
TITLE_FIELD = "title"
OUTER = "_outer"
"""Holds the outer fields whose names occur inside of `metadata` too."""

EXACT = 1 << 53
"""Whole doubles below it are exact."""

_ID_FIELDS = frozenset(ID_FIELDS)
_TITLED = (TITLE_JOINED,)

_Place = tuple[Raw, str]
"""An object and a key of it."""


class Conventions:
    """Reads records for one run."""

    def __init__(
        self, text_field: str | None = None, id_field: str | None = None, title_field: str | None = None
    ) -> None:
        self._text = None if text_field is None else _Named(text_field)
        self._id = None if id_field is None or id_field == NONE else _Named(id_field)
        self._numbered = id_field == NONE
        self._title = None if title_field is None or title_field == NONE else _Named(title_field)
        self._usual = text_field is None and id_field is None and title_field is None
        self._usual_title = title_field is None and text_field is None
        self.met: list[str] = []
        """Notes on the metadata written last; the caller takes and clears them."""

    def read(self, record: Raw) -> Fields | Reject | Noted:
        """Id, text, metadata and notes of a record, which is changed in place."""
        if not self._usual:
            return self._read(record)
        # A fast path: without named fields, nearly all records take it, in half the time.
        key = "text"
        text = record.get("text")
        if text is None:
            key = "page_content" if record.get("page_content") is not None else "content"
            text = record.get(key)
        if type(text) is not str or not text:
            return self._read(record)
        id_key, id_ = "id", record.get("id")
        if id_ is None or "chunk_id" in record or "element_id" in record:
            id_key = _usual_id(record)
            if id_key is None:
                nested: Any = record.get("metadata")
                if type(nested) is dict and not _ID_FIELDS.isdisjoint(nested):
                    return self._read(record)
                id_ = None
            else:
                id_ = record[id_key]
        if id_key is not None and (type(id_) is not str or not 0 < len(id_) <= MAX_ID_CHARS):
            return self._read(record)
        notes: tuple[str, ...] = ()
        title = record.get(TITLE_FIELD)
        if title is not None and (type(title) is str or (title := _as_title(title))) and title and not title.isspace():
            text = f"{title} {text}"
            notes = _TITLED
        del record[key]
        if id_key is not None:
            del record[id_key]
        if record.get("metadata") is None:
            record.pop("metadata", None)
            return id_, text, record or None, notes
        left, kept = _flattened(record)
        return id_, text, left, notes + kept if kept else notes

    def _read(self, record: Raw) -> Fields | Reject | Noted:
        envelope: Opened | None = None
        place = _usual_text(record) if self._text is None else self._text.at_the_top(record)
        if place is None:
            envelope = open_envelope(record)
            record = envelope.record if envelope is not None else record
            place = _usual_text(record) if self._text is None else self._text.find(record, envelope)
        text: Any = None if place is None else place[0].get(place[1])
        if not text and _is_element(record):
            return Noted(None, (ELEMENTS_SKIPPED,))
        metadata = record.get("metadata")
        nested: Raw = cast("Raw", metadata) if isinstance(metadata, dict) else {}
        id_place, id_ = self._find_id(record, nested, envelope)
        if isinstance(id_, Reject):
            return id_
        if type(text) is not str:
            text = _decoded(text) if isinstance(text, bytes) else None
            if text is None:
                return Reject(self._no_text(place), excerpt(record), id_)
        notes: tuple[str, ...] = ()
        if (self._usual_title or self._title is not None) and (title := self._find_title(record, envelope)):
            text = f"{title} {text}"
            notes = (TITLE_JOINED,)

        # The record becomes the metadata: what is left of it when text, id and the nested object are taken out.
        assert place is not None, "text was found there"
        _remove(record, *place)
        if id_place is not None:
            _remove(record, *id_place)
        if envelope is not None and envelope.outer:
            record, kept = _merged(envelope.outer, record)
            notes += kept
        left, kept = _flattened(record)
        return id_, text, left, notes + kept

    def with_folder(self, metadata: Raw | None, collection: str) -> tuple[Raw, tuple[str, ...]]:
        """The metadata with the name of the file's folder as `collection`, and notes; a `collection` of the record's own
        wins."""
        return _merged({"collection": collection}, metadata or {})

    def write(self, metadata: Raw) -> str:
        """The metadata as JSON, bytes as base64 and MongoDB's typed values as plain ones; TypeError where it is too deep."""
        # Searched as text, which is five times as fast as in bytes.
        text = orjson.dumps(metadata, default=self._plain).decode()
        if "$" in text and '{"$' in text:
            text = orjson.dumps(plain_values(metadata, self.met), default=self._plain).decode()
        return text

    def _plain(self, value: Any) -> str:
        if not isinstance(value, bytes):
            return str(value)
        if BYTES_AS_BASE64 not in self.met:
            self.met.append(BYTES_AS_BASE64)
        return b64encode(value).decode()

    def _no_text(self, place: _Place | None) -> str:
        if place is not None:
            name = place[1] if self._text is None else self._text.name
            return f"text field {name!r} is {_what(place[0][place[1]])}, not a string"
        if self._text is not None:
            return f"no text: the record has no field {self._text.name!r}"
        return "no text: the record has none of 'text', 'page_content', 'content'"

    def _find_title(self, record: Raw, envelope: Opened | None) -> str | None:
        if self._title is None:
            title = record.get(TITLE_FIELD)
        else:
            place = self._title.find(record, envelope)
            title = None if place is None else place[0][place[1]]
        return _as_title(title)

    def _find_id(self, record: Raw, nested: Raw, envelope: Opened | None) -> tuple[_Place | None, str | Reject | None]:
        """The field to remove from the record, None to leave it there; and the id."""
        if self._numbered:
            return None, None
        if self._id is not None:
            return self._find_named_id(self._id, record, nested, envelope)
        if envelope is not None and envelope.id is not None:
            return None, as_id("_id", envelope.id, record)
        if (key := _usual_id(record)) is not None:
            return (record, key), as_id(key, record[key], record)
        if nested and (key := _usual_id(nested)) is not None:
            return None, as_id(f"metadata.{key}", nested[key], record)
        return None, None

    def _find_named_id(
        self, named: _Named, record: Raw, nested: Raw, envelope: Opened | None
    ) -> tuple[_Place | None, str | Reject | None]:
        if named.name == "_id" and envelope is not None and envelope.id is not None:
            return None, as_id("_id", envelope.id, record)
        for where in (record, nested):
            place = named.find(where, envelope)
            if place is not None and (value := place[0][place[1]]) is not None:
                return (place if place[0] is record else None), as_id(named.name, value, record)
        return None, Reject(f"no id: the record has no field {named.name!r}", excerpt(record))


class _Named:
    """A field that a flag names: at the top level, or by a path. Inside an envelope, the path may leave out the envelope's
    key."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = FieldPath(name)
        self._inside = {prefix: self._path.below(prefix) for prefix in PREFIXES}

    def at_the_top(self, record: Raw) -> _Place | None:
        """The field of that very name."""
        return (record, self.name) if self.name in record else None

    def find(self, record: Raw, envelope: Opened | None) -> _Place | None:
        """Find the field in the record, which is the inner one if there is an envelope."""
        place = self._path.find(record)
        if place is None and envelope is not None:
            inside = self._inside.get(envelope.prefix)
            place = (inside.find(record) if inside is not None else None) or self._path.find(envelope.outer)
        return place


def conventions_of(spec: RunSpec) -> Conventions | FirstConventions:
    """How the run reads records."""
    if spec.preprocessing == FIRST:
        return FirstConventions(spec.text_field, spec.id_field)
    return Conventions(spec.text_field, spec.id_field, spec.title_field)


def _usual_text(record: Raw) -> _Place | None:
    """The first text field that is not null, else one that is null."""
    for key in TEXT_FIELDS:
        if record.get(key) is not None:
            return record, key
    return next(((record, key) for key in TEXT_FIELDS if key in record), None)


def _usual_id(fields: Raw) -> str | None:
    """The first of ID_FIELDS that is not null. A `chunk_id` that is a number counts last: it may be a place in a document."""
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


def _as_title(value: Any) -> str | None:
    """The text of a title, None where there is none."""
    if isinstance(value, bytes):
        value = _decoded(value)
    return value if isinstance(value, str) and value.strip() else None


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _what(value: Any) -> str:
    """The type of a value that should be text, for a message."""
    if not isinstance(value, bytes):
        return kind(value)
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"bytes that are not UTF-8 (the one at {error.start})"
    return "bytes"


def _is_element(record: Raw) -> bool:
    """Whether a record without text is an element of Unstructured, such as a page break: nothing to embed, and no fault."""
    return record.get("type") == "PageBreak" or ("element_id" in record and "type" in record)


def _remove(record: Raw, holder: Raw, key: str) -> None:
    """Take a field out, and the object that held it if nothing else is in it."""
    holder.pop(key, None)
    if not holder and holder is not record:
        for name in [name for name, value in record.items() if value is holder]:
            del record[name]


def _flattened(record: Raw) -> tuple[Raw | None, tuple[str, ...]]:
    """The record with the fields of its `metadata` moved to the top level, and notes; None if no field is left."""
    metadata = record.get("metadata")
    if metadata is not None and type(metadata) is not dict:
        return record, ()
    record.pop("metadata", None)
    if not metadata:
        return record or None, ()
    return _merged(record, metadata) if record else (metadata, ())


def _merged(outer: Raw, inner: Raw) -> tuple[Raw, tuple[str, ...]]:
    """Merge two objects. A field with different values in both keeps its name for the inner one; the outer one goes below
    OUTER.

    A null does not count as a value, and equal values are kept once.
    """
    merged = {**outer, **inner}
    if len(merged) == len(outer) + len(inner):
        return merged, ()
    kept: Raw = {}
    for key in outer.keys() & inner.keys():
        if inner[key] is None:
            merged[key] = outer[key]
        elif outer[key] is not None and not _same(outer[key], inner[key]):
            kept[key] = outer[key]
    if not kept:
        return merged, ()
    name = OUTER
    while name in merged:
        name = f"_{name}"
    merged[name] = kept
    return merged, (OUTER_KEPT,)


def _same(one: Any, other: Any) -> bool:
    try:
        return orjson.dumps(one, default=repr) == orjson.dumps(other, default=repr)
    except (TypeError, RecursionError):
        return False


def as_id(key: str, value: Any, record: Raw) -> str | Reject:
    """A value as an id: a string, a whole number that is exact, bytes that are UTF-8, or MongoDB's typed ones of these."""
    if type(value) is dict:
        value = plain_values(value)
    elif type(value) is bytes:
        value = _decoded(value) if _decoded(value) is not None else value
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
    return Reject(f"id field {key!r} is {_what(value)}, not a string or an integer{shown}", excerpt(record))


def field_names(record: Raw, before: str = "") -> list[str]:
    """The names of a record's fields as flags take them, with dots for fields inside of objects."""
    names: list[str] = []
    for key, value in record.items():
        if isinstance(value, dict) and value and not before:
            names += field_names(cast("Raw", value), f"{key}.")
        else:
            names.append(f"{before}{key}")
    return names
