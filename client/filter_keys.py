"""Keys of the metadata in filters: one that no chunk has is told, since nothing would be found for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..protocol.errors import RunDirectoryError, UsageError
from ..protocol.layout import RunLayout, segments_in
from .run_files import read_table

METADATA = "metadata."
SAMPLE = 200
"""Chunks whose keys are told."""

MOST_KEYS = 20


_PLAIN = re.compile(r"[\w-]+")
"""What the engine takes as a key without quotes. In quotes it takes all but these two: quotes and backslashes."""


def plain_filters(filters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """With keys as they are inside the metadata: `metadata.KEY` is KEY. UsageError for a key that the engine cannot read."""
    import qdrant_edge as edge

    found = [(key.removeprefix(METADATA), value) for key, value in filters]
    for key, _ in found:
        try:
            edge.IsEmptyCondition(METADATA + key)
        except ValueError:
            quoted = _quoted(key) or _quoted("a key")
            raise UsageError(
                f"--filter {key}=…: is no path of keys; put a key with other signs than letters, digits, - and _ in double "
                f"quotes, as in --filter '{quoted}=VALUE'"
            ) from None
    return found


def check_keys(layout: RunLayout, shard: Any, filters: Sequence[tuple[str, str]]) -> None:
    """UsageError for the first key that no chunk in the shard has; the engine counts them."""
    import qdrant_edge as edge

    for key, _ in filters:
        having = edge.Filter(must_not=[edge.IsEmptyCondition(METADATA + key)])
        if not shard.count(edge.CountRequest(exact=True, filter=having)):
            keys = _keys(layout)
            known = f"; keys: {', '.join(keys)}" if keys else ""
            raise UsageError(f"--filter {key}=…: no chunk has {METADATA}{key}{known}")


def _keys(layout: RunLayout) -> list[str]:
    """Those of the first chunks: enough to see what was mistyped."""
    found: dict[str, None] = {}
    try:
        for segment in segments_in(layout.chunks)[:1]:
            texts = read_table(layout.chunk_segment(segment), ("metadata",)).column("metadata")
            for text in texts.slice(0, SAMPLE).to_pylist():
                found.update(dict.fromkeys(_inside(msgspec.json.decode(text) if text else {})))
    except (RunDirectoryError, msgspec.MsgspecError):
        return []  # the message stands without them
    keys = sorted(found)
    return [*keys[:MOST_KEYS], *(["…"] if len(keys) > MOST_KEYS else [])]


def _inside(metadata: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """With dots inwards, as a filter has to give them."""
    for key, value in metadata.items():
        quoted = _quoted(key)
        if quoted is None:
            continue
        if isinstance(value, Mapping):
            yield from _inside(value, f"{before}{quoted}.")
        else:
            yield before + quoted


def _quoted(key: str) -> str | None:
    """One key as a filter has to give it; None where it cannot."""
    if _PLAIN.fullmatch(key):
        return key
    return None if '"' in key or "\\" in key else f'"{key}"'
