"""Keys of the metadata in filters: one that no chunk has is told, since nothing would be found for it."""

from __future__ import annotations

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


def plain_filters(filters: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """With keys as they are inside the metadata: `metadata.KEY` is KEY."""
    return [(key.removeprefix(METADATA), value) for key, value in filters]


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
    """With dots inwards."""
    for key, value in metadata.items():
        if isinstance(value, Mapping):
            yield from _inside(value, f"{before}{key}.")
        else:
            yield before + key
