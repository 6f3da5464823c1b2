"""Points cut into batches that hold so many at most, and so many bytes: for requests to a server, and for the shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..run_directory.vector_rows import SparseVector
from .points import Point

POINT_BYTES = 200
"""Id, names and framing, generously."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch holds at most so much, where a number takes `number_bytes`. A point that alone is larger goes alone.

    The defaults are those of a request over gRPC; Qdrant refuses 32 MB.
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
    """How many numbers the point's vectors have; a sparse vector has two for each term."""
    return sum(
        2 * len(one.indices) if isinstance(one, SparseVector) else int(one.size) for one in point.vectors.values()
    )


def _bytes(point: Point, number: int) -> int:
    return POINT_BYTES + numbers_in(point) * number + _payload_bytes(point.payload)


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
