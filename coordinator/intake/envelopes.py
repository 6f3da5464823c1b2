"""Records inside another object, as Elasticsearch, LangChain and LlamaIndex write them: unpack them and merge the fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import orjson

from ...protocol.source.intake_notes import OUTER_KEPT
from ..reading.records import Raw

PREFIXES = ("_source", "kwargs", "__data__")
"""The keys that hold the inner record."""
OUTER = "_outer"
"""The key for outer fields whose names occur inside `metadata` too."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The inner record. `outer` has the fields beside it; `prefix` is the key that held it."""

    record: Raw
    prefix: str
    outer: Raw
    id: Any = None
    """The id in the outer object."""


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
    """The record, with the text of its `text_resource` if it has none of its own."""
    resource = record.get("text_resource")
    if record.get("text") is not None or not isinstance(resource, dict):
        return record
    text = cast("Raw", resource).get("text")
    return {key: value for key, value in record.items() if key != "text_resource"} | {"text": text} if text else record


def remove_field(record: Raw, holder: Raw, key: str) -> None:
    """Remove a field, and the object that held it if that is empty then."""
    holder.pop(key, None)
    if not holder and holder is not record:
        for name in [name for name, value in record.items() if value is holder]:
            del record[name]


def flatten(record: Raw) -> tuple[Raw | None, tuple[str, ...]]:
    """The record with the fields of its `metadata` moved to the top level, and notes; None if no field is left."""
    metadata = record.get("metadata")
    if metadata is not None and type(metadata) is not dict:
        return record, ()
    record.pop("metadata", None)
    if not metadata:
        return record or None, ()
    return merge(record, metadata) if record else (metadata, ())


def merge(outer: Raw, inner: Raw) -> tuple[Raw, tuple[str, ...]]:
    """Merge two objects. If both have a field with different values, the inner value keeps the name; the outer one goes
    below OUTER.

    A null does not count as a value, and equal values are kept once.
    """
    merged = {**outer, **inner}
    if len(merged) == len(outer) + len(inner):
        return merged, ()
    kept: Raw = {}
    for key in outer:  # in its order: chunk files are the same whenever they are made
        if key not in inner:
            continue
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
