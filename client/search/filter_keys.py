"""Check the metadata keys in filters: a key that no chunk has is an error, since the filter would match nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from ...protocol.errors import RunDirectoryError, UsageError
from ...protocol.run_directory.layout import RunLayout, segments_in
from ..run_directory.files import read_table

METADATA = "metadata."
SAMPLE = 200
"""Number of chunks whose keys the message lists."""

MOST_KEYS = 20
MOST_SHOWN = 100
"""Most characters of a key that a message shows."""


_PLAIN = re.compile(r"[\w-]+")
"""Keys that the engine takes without quotes. In quotes it takes every character but double quotes and backslashes."""


Filters = Sequence[tuple[str, Any]] | Mapping[str, Any]
"""(key, value) pairs of the metadata, or a dict of them."""


def plain_filters(filters: Filters) -> list[tuple[str, str]]:
    """The filters with keys relative to the metadata (`metadata.KEY` becomes KEY) and values as on the command line.

    UsageError for what is not a pair, for a key that the engine cannot read, and for a value that is not text, a number, a
    boolean or None.
    """
    import qdrant_edge as edge

    plain = [(key.removeprefix(METADATA), _as_typed(key, value)) for key, value in _pairs(filters)]
    for key, _ in plain:
        try:
            edge.IsEmptyCondition(METADATA + key)
        except ValueError:
            quoted = _quoted(key) or _quoted("a key")
            raise UsageError(
                f"--filter {_short(key)}=…: the key is not a valid path; put a name with other characters than letters, "
                f"digits, - and _ in double quotes, as in --filter '{quoted}=VALUE'"
            ) from None
    return plain


def check_keys(layout: RunLayout, shard: Any, filters: Sequence[tuple[str, str]]) -> None:
    """Raise UsageError for the first key that has no value in any chunk of the shard."""
    import qdrant_edge as edge

    for key, value in filters:
        where = METADATA + key
        if shard.count(edge.CountRequest(exact=True, filter=edge.Filter(must_not=[edge.IsEmptyCondition(where)]))):
            continue
        if shard.count(edge.CountRequest(exact=True, filter=edge.Filter(must=[edge.IsNullCondition(where)]))):
            if value != "null":
                what = f"{where} is null in every chunk that has it; --filter {_short(key)}=null finds these chunks"
                raise UsageError(f"--filter {_short(key)}=…: {what}")
            continue
        keys = _keys(layout)
        known = f"; keys: {', '.join(keys)}" if keys else ""
        raise UsageError(f"--filter {_short(key)}=…: no chunk has {_short(where)}{known}")


def _pairs(filters: Filters) -> Iterator[tuple[str, Any]]:
    found: Any = filters.items() if isinstance(filters, Mapping) else filters
    for one in found:
        match one:
            case (str(key), value):
                yield key, value
            case _:
                raise UsageError(
                    f"filters: {_short(repr(one))} is not a (key, value) pair; give pairs or a dict, as in {{'module': 'json'}}"
                )


def _as_typed(key: str, value: Any) -> str:
    """A Python value as text, as on the command line."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (str, int, float, np.number, Decimal)):
        return str(value)
    raise UsageError(
        f"the filter {_short(key)}: its value is a {type(value).__name__}; give text, a number or a boolean"
    )


def _short(key: str) -> str:
    return key if len(key) <= MOST_SHOWN else f"{key[:MOST_SHOWN]}…"


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
