"""Check the metadata keys in filters: a key that no chunk has is an error, since the filter would match nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import msgspec
import numpy as np

from ...protocol.errors import RunDirectoryError, UsageError
from ...protocol.index.date_span import date_span
from ...protocol.index.metadata_filter import METADATA, MetadataFilter, comparable, number_span
from ...protocol.run_directory.layout import RunLayout, segments_in
from ..run_directory.files import read_table
from .filter_text import shorten, split_filters

SAMPLE = 200
"""Number of chunks whose keys the message lists."""

MOST_KEYS = 20


_PLAIN = re.compile(r"[\w-]+")
"""Keys that the engine takes without quotes. In quotes it takes every character but double quotes and backslashes."""


Filters = Sequence[str | tuple[str, Any] | MetadataFilter] | Mapping[str, Any]
"""Texts as on the command line (`words>=100`), (key, value) pairs of the metadata, or a dict of such pairs. A list as value
means any of its elements."""


def plain_filters(filters: Filters) -> list[MetadataFilter]:
    """The filters with keys relative to the metadata (`metadata.KEY` becomes KEY) and values as on the command line.

    UsageError for what is neither a text nor a pair, for a key that the engine cannot read, and for a value that is not text,
    a number, a boolean, None or a list of these.
    """
    import qdrant_edge as edge

    plain = [MetadataFilter(one.key.removeprefix(METADATA), one.values, one.relation) for one in _each(filters)]
    for one in plain:
        try:
            edge.IsEmptyCondition(METADATA + one.key)
        except ValueError:
            quoted = _quoted(one.key) or _quoted("a key")
            raise UsageError(
                f"--filter {_shown(one)}: the key is not a valid path; put a name with other characters than letters, "
                f"digits, - and _ in double quotes, as in --filter '{quoted}=VALUE'"
            ) from None
    return plain


def check_keys(layout: RunLayout, shard: Any, filters: Sequence[MetadataFilter]) -> None:
    """Raise UsageError for the first key that has no value in any chunk of the shard, or none that its range can find."""
    import qdrant_edge as edge

    for one in filters:
        where = METADATA + one.key
        if shard.count(edge.CountRequest(exact=True, filter=edge.Filter(must_not=[edge.IsEmptyCondition(where)]))):
            if one.relation != "=" and not shard.count(
                edge.CountRequest(exact=True, filter=comparable(one.key, one.values[0]))
            ):
                raise UsageError(f"--filter {_shown(one)}: {_without_range(one)}")
            continue
        if shard.count(edge.CountRequest(exact=True, filter=edge.Filter(must=[edge.IsNullCondition(where)]))):
            if "null" not in one.values:
                what = (
                    f"{where} is null in every chunk that has it; --filter {shorten(one.key)}=null finds these chunks"
                )
                raise UsageError(f"--filter {_shown(one)}: {what}")
            continue
        keys = _keys(layout)
        near = get_close_matches(one.key, keys, 1)
        known = f"; keys: {', '.join(keys)}" if keys else ""
        known += f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--filter {_shown(one)}: no chunk has {shorten(where)}{known}")


def _each(filters: Filters) -> Iterator[MetadataFilter]:
    found: Any = filters.items() if isinstance(filters, Mapping) else filters
    for one in [found] if isinstance(found, str) else found:
        match one:
            case MetadataFilter(relation="="):
                yield one
            case MetadataFilter():  # checked as one that was typed: without a bound, a range would match everything
                yield from split_filters([f"{one.key}{one.relation}{'|'.join(one.values)}"])
            case str(text):
                yield from split_filters([text])
            case (str(key), list() | tuple() | set() | frozenset() as values):
                if not values:
                    raise UsageError(f"the filter {shorten(key)}: its list is empty; give at least one value")
                yield MetadataFilter(key, tuple(_as_typed(key, value) for value in values))
            case (str(key), value):
                yield MetadataFilter(key, (_as_typed(key, value),))
            case _:
                raise UsageError(
                    f"filters: {shorten(repr(one))} is not a (key, value) pair; give pairs or a dict, as in "
                    "{'module': 'json'}, or texts, as in ['words>=100']"
                )


def _as_typed(key: str, value: Any) -> str:
    """A Python value as text, as on the command line."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (str, int, float, np.number, Decimal)):
        return str(value)
    raise UsageError(
        f"the filter {shorten(key)}: its value is a {type(value).__name__}; give text, a number or a boolean, or a list of them"
    )


def _shown(one: MetadataFilter) -> str:
    return f"{shorten(one.key)}{one.relation}…"


def _without_range(one: MetadataFilter) -> str:
    """Why a range finds nothing in any chunk."""
    bound, what = one.values[0], list[str]()
    if number_span(bound) is not None:
        what.append("a number")
    if date_span(bound) is not None:
        what.append("a date such as 2024-01-31 or 2024-01-31T10:00:00Z")
    return f"{shorten(METADATA + one.key)} is not {' or '.join(what)} in any chunk; texts are compared by = alone"


def _keys(layout: RunLayout) -> list[str]:
    """The keys of the first SAMPLE chunks; empty if they cannot be read."""
    found: dict[str, None] = {}
    try:
        for segment in segments_in(layout.chunks)[:1]:
            texts = read_table(layout.chunk_segment(segment), ("metadata",)).column("metadata")
            for text in texts.slice(0, SAMPLE).to_pylist():
                found.update(dict.fromkeys(_inside(msgspec.json.decode(text) if text else {})))
    except (RunDirectoryError, msgspec.MsgspecError):
        return []
    keys = sorted(found)
    return [*keys[:MOST_KEYS], *(["…"] if len(keys) > MOST_KEYS else [])]


def _inside(metadata: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The keys that have a value, as a filter names them: nested keys with dots."""
    for key, value in metadata.items():
        quoted = _quoted(key)
        if quoted is None:
            continue
        if isinstance(value, Mapping):
            yield from _inside(value, f"{before}{quoted}.")
        elif value is not None and value != []:
            yield before + quoted


def _quoted(key: str) -> str | None:
    """One key as a filter names it, in quotes if needed; None if no filter can name it."""
    if _PLAIN.fullmatch(key):
        return key
    return None if '"' in key or "\\" in key else f'"{key}"'
