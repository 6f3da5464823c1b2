"""Points in the form that qdrant-client takes, cut into requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol.points import Point
from ..protocol.vector_rows import SparseVector

if TYPE_CHECKING:
    from qdrant_client import models

NUMBER_BYTES = {True: 4, False: 22}
"""Bytes of a number over gRPC, and at most over REST, where a float32 is written as the float64 that it is."""

POINT_BYTES = 200
"""Id, names and framing, generously."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A request holds at most so much; Qdrant refuses 32 MB. A point that alone is larger goes alone."""

    points: int = 256
    bytes: int = 16 << 20
    number_bytes: int = NUMBER_BYTES[True]


def cut(points: Iterable[Point], limits: BatchLimits) -> Iterator[list[Point]]:
    """Batches within the limits, in order."""
    batch: list[Point] = []
    size = 0
    for point in points:
        more = _bytes(point, limits.number_bytes)
        if batch and (len(batch) == limits.points or size + more > limits.bytes):
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += more
    if batch:
        yield batch


def to_struct(point: Point) -> models.PointStruct:
    """The point for `QdrantClient.upsert`."""
    from qdrant_client import models

    vectors: dict[str, Any] = {
        name: models.SparseVector(indices=one.indices.tolist(), values=one.values.tolist())
        if isinstance(one, SparseVector)
        else one.tolist()
        for name, one in point.vectors.items()
    }
    return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)


def _bytes(point: Point, number: int) -> int:
    numbers = sum(
        2 * len(one.indices) if isinstance(one, SparseVector) else int(one.size) for one in point.vectors.values()
    )
    return POINT_BYTES + numbers * number + _payload_bytes(point.payload)


def _payload_bytes(value: Any) -> int:
    """About what a payload takes, in either form."""
    match value:
        case str():
            return 8 + 3 * len(value)  # UTF-8; escapes in JSON are rarer than one-byte letters
        case dict():
            return 8 + sum(_payload_bytes(name) + _payload_bytes(one) for name, one in value.items())
        case list():
            return 8 + sum(_payload_bytes(one) for one in value)
        case _:
            return 24
