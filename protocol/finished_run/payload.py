"""The payload of a point. Apart from the points, so that a search's results have their types without loading Arrow."""

from __future__ import annotations

from typing import Any, TypedDict

RESERVED = "embedfleet"
"""The key of a payload that is neither the source's nor for people."""

Metadata = dict[str, Any]
"""What the source says of a chunk beside its text: a JSON object of any shape."""


class SegmentDigest(TypedDict):
    """Under RESERVED: the digest of all vectors of the segment that the chunk is in, as they are kept."""

    vectors: str


class Payload(TypedDict):
    """What a point says of its chunk."""

    id: str
    row: int
    text: str
    metadata: Metadata
    embedfleet: SegmentDigest
