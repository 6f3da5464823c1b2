"""Points in the form that qdrant-client takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol.finished_run.points import Point, as_lists

if TYPE_CHECKING:
    from qdrant_client import models

NUMBER_BYTES = {True: 4, False: 22}
"""Bytes of a number over gRPC, and at most over REST, where a float32 is written as the float64 that it is."""


def to_struct(point: Point) -> models.PointStruct:
    """The point for `QdrantClient.upsert`."""
    from qdrant_client import models

    def sparse(indices: list[int], values: list[float]) -> models.SparseVector:
        return models.SparseVector(indices=indices, values=values)

    return models.PointStruct(id=point.id, vector=as_lists(point.vectors, sparse), payload=dict(point.payload))
