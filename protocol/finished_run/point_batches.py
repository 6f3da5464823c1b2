"""Cut points into batches of limited count and size, for requests to a server and for the shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..run_directory.vector_rows import SparseVector
from .points import Point

POINT_BYTES = 200
"""An upper estimate for a point's id, names and framing."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The largest batch. A number counts `number_bytes`. A larger point gets a batch of its own.

    The defaults are for requests over gRPC; Qdrant refuses 32 MB.
    """

    points: int = 256
    bytes: int = 16 << 20
    number_bytes: int = 4


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


def numbers_in(point: Point) -> int:
    """The count of numbers in the point's vectors; a sparse vector has two for each term."""
    return sum(
        2 * len(one.indices) if isinstance(one, SparseVector) else int(one.size) for one in point.vectors.values()
    )


def _bytes(point: Point, number: int) -> int:
    return POINT_BYTES + numbers_in(point) * number + _payload_bytes(point.payload)


def _payload_bytes(value: Any) -> int:
    """Estimated bytes of a payload, as JSON or in gRPC."""
    match value:
        case str():
            return 8 + 3 * len(value)  # UTF-8; escapes in JSON are rarer than one-byte letters
        case dict():
            return 8 + sum(_payload_bytes(name) + _payload_bytes(one) for name, one in value.items())
        case list():
            return 8 + sum(_payload_bytes(one) for one in value)
        case _:
            return 24
