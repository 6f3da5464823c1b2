"""Find the points that are larger than a server's limit on a request, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from ...protocol.finished_run.point_batches import POINT_BYTES, numbers_in
from ...protocol.finished_run.points import Point
from ..output.formatting import human_bytes, pluralize

MOST_REQUEST_MIB = 32
"""Qdrant's limit on a request, by default (its setting `max_request_size_mb`)."""
OVERHEAD = 64 << 10
"""An upper bound on the bytes of a request beside its points."""
CUT_CHARS = 64 << 10
"""Characters that are kept of a text that --cut-payload shortens."""
NAMED = 5


@dataclass(slots=True)
class LargePoints:
    """Leaves out points that are larger than a request may be, or shortens their payloads, and lists them.

    `grpc`: sizes are those of gRPC; otherwise those of JSON, where a quotation mark or a line end takes two bytes.
    """

    most_bytes: int
    number_bytes: int
    grpc: bool
    cut: bool = False
    left_out: list[str] = field(default_factory=list[str])
    """Ids of chunks; messages show only the first ones."""
    shortened: list[str] = field(default_factory=list[str])

    def take(self, points: Iterable[Point]) -> Iterator[Point]:
        """Yield the points that fit, including those with a shortened payload."""
        for point in points:
            if self._fits(point):
                yield point
            elif self.cut and self._fits(short := cut_payload(point)):
                self.shortened.append(point.payload["id"])
                yield short
            else:
                self.left_out.append(point.payload["id"])

    @property
    def notices(self) -> Iterator[str]:
        """Messages about these points."""
        if self.left_out:
            yield (
                f"{pluralize(len(self.left_out), 'chunk')} left out: larger than a request may be "
                f"({human_bytes(self.most_bytes)}): {_named(self.left_out)}. --cut-payload sends such chunks with the "
                "beginning of their text and no metadata; --max-request MIB allows more, if the server accepts it"
            )
        if self.shortened:
            yield (
                f"{pluralize(len(self.shortened), 'chunk')} sent with the beginning of the text and no metadata: "
                f"{_named(self.shortened)}"
            )

    def _fits(self, point: Point) -> bool:
        rest = self.most_bytes - OVERHEAD - POINT_BYTES - numbers_in(point) * self.number_bytes
        text = point.payload["text"]
        if 6 * len(text) + (1 << 20) < rest and not point.payload["metadata"]:  # most points, quickly
            return True
        return (_wire_bytes(point.payload) if self.grpc else len(orjson.dumps(point.payload))) <= rest


def cut_payload(point: Point) -> Point:
    """The point with the beginning of its text and without its metadata."""
    return replace(point, payload=point.payload | {"text": point.payload["text"][:CUT_CHARS], "metadata": {}})


def _wire_bytes(value: Any) -> int:
    """The size of a payload in Qdrant's gRPC messages, within some bytes per value."""
    match value:
        case str():
            return 16 + len(value.encode())
        case dict():
            return 16 + sum(16 + len(str(name).encode()) + _wire_bytes(one) for name, one in value.items())
        case list():
            return 16 + sum(_wire_bytes(one) for one in value)
        case _:
            return 24


def _named(ids: list[str]) -> str:
    shown = ", ".join(repr(one if len(one) <= 80 else one[:79] + "…") for one in ids[:NAMED])
    return shown + (f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else "")
