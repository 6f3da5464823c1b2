"""Turn a raw record into the id, text and metadata of a chunk, or into a reason for its rejection.

Conventions or flags determine the fields. These are the rules of policy `nfc-blank-2`, described in
`docs/sources.md`. A run of 0.1.0 keeps the rules of `first_conventions.py`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, cast

import orjson

from ...protocol.source.intake_notes import BYTES_AS_BASE64, ELEMENTS_SKIPPED, TITLE_JOINED
from ...protocol.spec.run_spec import NONE, RunSpec
from ...protocol.text.preprocessing import FIRST
from ..reading.first_conventions import FirstConventions
from ..reading.records import MAX_ID_CHARS, Fields, Noted, Raw, Reject, excerpt
from .envelopes import Opened, flatten, merge, open_envelope, remove_field
from .extended_json import plain_values
from .field_paths import NamedField, Place
from .usual_fields import (
    TITLE_FIELD,
    as_id,
    as_title,
    decoded,
    has_id,
    is_element,
    usual_id,
    usual_text,
    value_type,
)

_TITLED = (TITLE_JOINED,)


class Conventions:
    """Reads records for one run."""

    def __init__(
        self, text_field: str | None = None, id_field: str | None = None, title_field: str | None = None
    ) -> None:
        self._text = None if text_field is None else NamedField(text_field)
        self._id = None if id_field is None or id_field == NONE else NamedField(id_field)
        self._numbered = id_field == NONE
        self._title = None if title_field is None or title_field == NONE else NamedField(title_field)
        self._usual = text_field is None and id_field is None and title_field is None
        self._usual_title = title_field is None and text_field is None
        self.met: list[str] = []
        """Notes on the metadata written last; the caller takes and clears them."""

    def read(self, record: Raw) -> Fields | Reject | Noted:
        """Id, text, metadata and notes of a record; changes the record in place."""
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
            id_key = usual_id(record)
            if id_key is None and has_id(record.get("metadata")):
                return self._read(record)
            id_ = None if id_key is None else record[id_key]
        if id_key is not None and (type(id_) is not str or not 0 < len(id_) <= MAX_ID_CHARS):
            return self._read(record)
        notes: tuple[str, ...] = ()
        title = record.get(TITLE_FIELD)
        if title is not None and (type(title) is str or (title := as_title(title))) and title and not title.isspace():
            text = f"{title} {text}"
            notes = _TITLED
        del record[key]
        if id_key is not None:
            del record[id_key]
        if record.get("metadata") is None:
            record.pop("metadata", None)
            return id_, text, record or None, notes
        left, kept = flatten(record)
        return id_, text, left, notes + kept if kept else notes

    def _read(self, record: Raw) -> Fields | Reject | Noted:
        envelope: Opened | None = None
        place = usual_text(record) if self._text is None else self._text.at_the_top(record)
        if place is None:
            envelope = open_envelope(record)
            record = envelope.record if envelope is not None else record
            place = usual_text(record) if self._text is None else self._text.find(record, envelope)
        text: Any = None if place is None else place[0].get(place[1])
        if not text and is_element(record):
            return Noted(None, (ELEMENTS_SKIPPED,))
        metadata = record.get("metadata")
        nested: Raw = cast("Raw", metadata) if isinstance(metadata, dict) else {}
        id_place, id_ = self._find_id(record, nested, envelope)
        if isinstance(id_, Reject):
            return id_
        if type(text) is not str:
            text = decoded(text) if isinstance(text, bytes) else None
            if text is None:
                return Reject(self._no_text(place), excerpt(record), id_)
        notes: tuple[str, ...] = ()
        if (self._usual_title or self._title is not None) and (title := self._find_title(record, envelope)):
            text = f"{title} {text}"
            notes = (TITLE_JOINED,)

        # What is left of the record without text, id and the nested object becomes the metadata.
        assert place is not None, "text was found there"
        remove_field(record, *place)
        if id_place is not None:
            remove_field(record, *id_place)
        if envelope is not None and envelope.outer:
            record, kept = merge(envelope.outer, record)
            notes += kept
        left, kept = flatten(record)
        return id_, text, left, notes + kept

    def with_folder(self, metadata: Raw | None, collection: str) -> tuple[Raw, tuple[str, ...]]:
        """The metadata with the name of the file's folder as `collection`, and notes. The record's own `collection` wins."""
        return merge({"collection": collection}, metadata or {})

    def write(self, metadata: Raw) -> str:
        """The metadata as JSON, with bytes as base64 and MongoDB's typed values as plain ones; TypeError if it is too deep."""
        # A search in text is five times as fast as in bytes.
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

    def _no_text(self, place: Place | None) -> str:
        if place is not None:
            name = place[1] if self._text is None else self._text.name
            return f"text field {name!r} is {value_type(place[0][place[1]])}, not a string"
        if self._text is not None:
            return f"no text: the record has no field {self._text.name!r}"
        return "no text: the record has none of 'text', 'page_content', 'content'"

    def _find_title(self, record: Raw, envelope: Opened | None) -> str | None:
        if self._title is None:
            title = record.get(TITLE_FIELD)
        else:
            place = self._title.find(record, envelope)
            title = None if place is None else place[0][place[1]]
        return as_title(title)

    def _find_id(self, record: Raw, nested: Raw, envelope: Opened | None) -> tuple[Place | None, str | Reject | None]:
        """The field to remove from the record (None: leave it there), and the id."""
        if self._numbered:
            return None, None
        if self._id is not None:
            return self._find_named_id(self._id, record, nested, envelope)
        if envelope is not None and envelope.id is not None:
            return None, as_id("_id", envelope.id, record)
        if (key := usual_id(record)) is not None:
            return (record, key), as_id(key, record[key], record)
        if nested and (key := usual_id(nested)) is not None:
            return None, as_id(f"metadata.{key}", nested[key], record)
        return None, None

    def _find_named_id(
        self, named: NamedField, record: Raw, nested: Raw, envelope: Opened | None
    ) -> tuple[Place | None, str | Reject | None]:
        if named.name == "_id" and envelope is not None and envelope.id is not None:
            return None, as_id("_id", envelope.id, record)
        for where in (record, nested):
            place = named.find(where, envelope)
            if place is not None and (value := place[0][place[1]]) is not None:
                return (place if place[0] is record else None), as_id(named.name, value, record)
        return None, Reject(f"no id: the record has no field {named.name!r}", excerpt(record))


def conventions_of(spec: RunSpec) -> Conventions | FirstConventions:
    """The rules by which the run reads records."""
    if spec.preprocessing == FIRST:
        return FirstConventions(spec.text_field, spec.id_field)
    return Conventions(spec.text_field, spec.id_field, spec.title_field)
