"""Ids of points for Qdrant, which accepts only unsigned integers and UUIDs."""

from __future__ import annotations

import uuid


def point_id(chunk_id: str) -> str:
    """The point id of a chunk: UUIDv5 of `embedfleet:` and its id, so that publishing twice writes the same point."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"embedfleet:{chunk_id}"))
