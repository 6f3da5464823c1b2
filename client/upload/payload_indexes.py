"""Choose payload indexes: the fields that a server can filter by without reading every point, each with a type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec

from ...protocol.errors import UsageError
from ...protocol.finished_run.done_run import DoneRun
from ...protocol.index.metadata_filter import METADATA, values_at
from ...protocol.run_directory.segment_stream import stream_batches
from .payloads import LEAST, MOST

IndexType = Literal["keyword", "integer", "float", "bool", "datetime", "text"]
"""Qdrant's names."""

Indexes = Mapping[str, IndexType]
"""The type of the index on each payload field, by the field's path."""

OWN: Indexes = {"id": "keyword", "row": "integer", "text": "text"}
"""The fields of a point's payload beside its metadata."""

MOST_FIELDS = 20
"""Most fields that a message lists."""

_STEP = r'(?:[\w-]+|"[^"\\]+")(?:\[[0-9]*\])*'
_PATH = re.compile(rf"{_STEP}(?:\.{_STEP})*")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?)?)?", re.ASCII)
"""The forms of RFC 3339 that Qdrant reads."""

_TAKES: dict[IndexType, frozenset[str]] = {
    "keyword": frozenset({"keyword", "datetime"}),
    "text": frozenset({"keyword", "datetime"}),
    "integer": frozenset({"integer"}),
    "float": frozenset({"integer", "float"}),
    "bool": frozenset({"bool"}),
    "datetime": frozenset({"datetime"}),
}
"""The kinds of values that an index takes; it leaves out the others."""

_WORDS = {"keyword": "text", "integer": "whole numbers", "float": "fractions", "bool": "booleans", "datetime": "dates"}


def choose_indexes(run: DoneRun, names: Sequence[str]) -> Indexes:
    """As `choose_indexes_of`, for one run."""
    return choose_indexes_of([run], names, OWN)


def choose_indexes_of(runs: Sequence[DoneRun], names: Sequence[str], own: Indexes) -> Indexes:
    """The payload fields for `names` (`FIELD` or `FIELD:TYPE`), each with its type.

    A field is a key of the metadata, as in a filter, or one of `own` (`id`, `row`, `text`). Without TYPE it gets the type of
    its values in the corpus: `float` for whole numbers and fractions, `datetime` if every text is a date. `text` splits texts
    into words, and is chosen by name only, except for the chunk's text.

    UsageError for an unknown field or type, for a field with objects, and for values that do not fit one type.
    """
    asked: dict[str, IndexType | None] = {}
    for name in names:
        path, kind = _parsed(name, own)
        if path in asked:
            raise UsageError(f"--payload-index {name}: {path} is named twice; a field has one index")
        asked[path] = kind
    scan = _Scan([path for path in asked if path not in own])
    if scan.kinds:
        scan.read(one for run in runs for one in _metadata(run))
    return {path: own[path] if path in own else scan.type_of(path, kind) for path, kind in asked.items()}


def _parsed(name: str, own: Indexes) -> tuple[str, IndexType | None]:
    """The path in the payload, and the type if the flag names one."""
    head, colon, tail = name.rpartition(":")
    field, kind = (head, tail) if colon and '"' not in tail else (name, None)
    types: tuple[IndexType, ...] = get_args(IndexType)
    if kind is not None and kind not in types:
        raise UsageError(f"--payload-index {name}: {kind!r} is no type; the types are {', '.join(types)}")
    path = field if field in own else METADATA + field.removeprefix(METADATA)
    if not _PATH.fullmatch(path):
        raise UsageError(
            f"--payload-index {name}: is no path; put a key with other characters than letters, digits, - and _ in double "
            "quotes, as in --payload-index '\"a key\"'"
        )
    if kind not in (None, own.get(path, kind)):
        raise UsageError(f"--payload-index {name}: the chunk's {path} is indexed as {own[path]}; leave :{kind} out")
    return path, kind


def _metadata(run: DoneRun) -> Iterator[tuple[str, Any]]:
    """Id and metadata of each chunk."""
    for segment in run.segments:
        for batch in stream_batches(run.layout.chunk_segment(segment), ("id", "metadata")):
            ids, texts = (batch.column(name).to_pylist() for name in ("id", "metadata"))
            yield from (
                (chunk, msgspec.json.decode(text) if text else {}) for chunk, text in zip(ids, texts, strict=True)
            )


class _Scan:
    """The kinds of values that each path has in the corpus, each with the first chunk that has it."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.kinds: dict[str, dict[str, str]] = {path: {} for path in paths}
        self._fields: dict[str, None] = {}

    def read(self, chunks: Iterable[tuple[str, Any]]) -> None:
        for chunk, metadata in chunks:
            if len(self._fields) <= MOST_FIELDS:
                self._fields.update(dict.fromkeys(metadata))
            for path, kinds in self.kinds.items():
                for value in values_at({"metadata": metadata}, path):
                    if value is not None:
                        kinds.setdefault(_kind(value), chunk)

    def type_of(self, path: str, asked: IndexType | None) -> IndexType:
        """The type of the index on a path. UsageError if there is none."""
        kinds, flag = self.kinds[path], f"--payload-index {path.removeprefix(METADATA)}"
        if not kinds:
            fields = sorted(self._fields)
            more = ", …" if len(fields) > MOST_FIELDS else ""
            known = f"; fields: {', '.join(fields[:MOST_FIELDS])}{more}" if fields else ""
            raise UsageError(f"{flag}: no chunk has a value of {path}{known}")
        if "object" in kinds:
            raise UsageError(
                f"{flag}: {path} has objects or lists in lists (chunk {kinds['object']!r}); "
                f"name a key in them, as in {flag}.KEY"
            )
        if asked is not None:
            if not _TAKES[asked] & kinds.keys():
                raise UsageError(
                    f"{flag}:{asked}: {path} has {_named(kinds)}, which an index of this type leaves out; leave :{asked} out"
                )
            return asked
        return _common(kinds, flag, path)


def _common(kinds: Mapping[str, str], flag: str, path: str) -> IndexType:
    """The one type that takes all of these kinds."""
    for one in ("integer", "float", "bool", "datetime", "keyword"):
        if kinds.keys() <= _TAKES[one]:
            return one
    raise UsageError(
        f"{flag}: {path} has {_named(kinds)}; an index takes one type, so say which, as in {flag}:{next(iter(kinds))}"
    )


def _named(kinds: Mapping[str, str]) -> str:
    return " and ".join(f"{_WORDS[kind]} (chunk {chunk!r})" for kind, chunk in kinds.items())


def _kind(value: Any) -> str:
    """The narrowest type that takes the value as it is sent: whole numbers beyond 64 bits are sent as text."""
    match value:
        case bool():
            return "bool"
        case int():
            return "integer" if LEAST <= value <= MOST else "keyword"
        case float():
            return "float"
        case str():
            return "datetime" if _is_datetime(value) else "keyword"
        case _:
            return "object"


def _is_datetime(text: str) -> bool:
    if not _DATETIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:  # as the 31st of February
        return False
    return True
