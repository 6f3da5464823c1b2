"""Records inside of another object, as Elasticsearch, LangChain and LlamaIndex write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from ..reading.records import Raw

PREFIXES = ("_source", "kwargs", "__data__")
"""The keys that hold the inner record."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The inner record. `outer` has the fields beside it, `prefix` is the key that held it."""

    record: Raw
    prefix: str
    outer: Raw
    id: Any = None
    """Its id, from the outer object."""


def open_envelope(record: Raw) -> Opened | None:
    """The inner record; None if there is none.

    Elasticsearch: `_source`, with `_id` beside it. LangChain: `kwargs` of a serialized constructor. LlamaIndex: `__data__`,
    and `text_resource` of a document.
    """
    if isinstance(source := record.get("_source"), dict):
        outer = {key: value for key, value in record.items() if key not in ("_source", "_id")}
        return Opened(_text_of_resource(cast("Raw", source)), "_source", outer, record.get("_id"))
    if "lc" in record and isinstance(arguments := record.get("kwargs"), dict):
        return Opened(cast("Raw", arguments), "kwargs", {})
    if isinstance(data := record.get("__data__"), dict):
        return Opened(_text_of_resource(cast("Raw", data)), "__data__", {})
    inner = _text_of_resource(record)
    return Opened(inner, "", {}) if inner is not record else None


def _text_of_resource(record: Raw) -> Raw:
    """The record with the text of its `text_resource`, where it has none of its own."""
    resource = record.get("text_resource")
    if record.get("text") is not None or not isinstance(resource, dict):
        return record
    text = cast("Raw", resource).get("text")
    return {key: value for key, value in record.items() if key != "text_resource"} | {"text": text} if text else record
