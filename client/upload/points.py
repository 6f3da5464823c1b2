"""Points in the form that qdrant-client takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protocol.finished_run.points import Point
from ...protocol.run_directory.vector_rows import SparseVector

if TYPE_CHECKING:
    from qdrant_client import models

NUMBER_BYTES = {True: 4, False: 22}
"""Bytes of a number over gRPC, and at most over REST, where a float32 is written as the float64 that it is."""


def to_struct(point: Point) -> models.PointStruct:
    """The point for `QdrantClient.upsert`."""
    from qdrant_client import models

    vectors: dict[str, Any] = {
        name: models.SparseVector(indices=one.indices.tolist(), values=one.values.tolist())
        if isinstance(one, SparseVector)
        else one.tolist()
        for name, one in point.vectors.items()
    }
    return models.PointStruct(id=point.id, vector=vectors, payload=dict(point.payload))
