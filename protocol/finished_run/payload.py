"""The payload of a point. Separate from `points.py`, so that a search needs no Arrow for the types of its results."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

RESERVED = "embedfleet"
"""The key for this package's own data in a payload."""

Metadata = dict[str, Any]
"""A chunk's metadata in the source: a JSON object of any shape."""


class SegmentDigest(TypedDict):
    """Under RESERVED: a digest of all stored vectors of the chunk's segment."""

    vectors: str


class Payload(TypedDict):
    """A chunk as the payload of its point."""

    id: str
    row: int
    """In the run; in the shard, if there is one."""
    shard: NotRequired[int]
    """Of a point that was uploaded with its shard, before the shards were merged."""
    text: str
    metadata: Metadata
    embedfleet: SegmentDigest
