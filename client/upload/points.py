"""Convert points for qdrant-client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol.finished_run.points import Point, as_lists

if TYPE_CHECKING:
    from qdrant_client import models

NUMBER_BYTES = {True: 4, False: 22}
"""Most bytes of one number, by whether gRPC is used. REST writes a float32 with the digits of a float64."""


def to_struct(point: Point) -> models.PointStruct:
    """The point for `QdrantClient.upsert`."""
    from qdrant_client import models

    def sparse(indices: list[int], values: list[float]) -> models.SparseVector:
        return models.SparseVector(indices=indices, values=values)

    return models.PointStruct(id=point.id, vector=as_lists(point.vectors, sparse), payload=dict(point.payload))
