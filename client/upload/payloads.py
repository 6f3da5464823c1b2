"""Payloads that gRPC and REST can both carry: gRPC has no integers beyond signed 64 bits, JSON has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from ...protocol.finished_run.points import Point

LEAST, MOST = -(1 << 63), (1 << 63) - 1


class BigIntegersAsText:
    """Converts integers beyond signed 64 bits to text, digit for digit, and counts the points with such integers.

    Over REST too, so that a later upload over gRPC finds the same payloads.
    """

    def __init__(self) -> None:
        self.points = 0
        self.first = ""
        """The first such chunk, and the path of the integer in it: `'c5' (metadata.serial)`."""

    def take(self, points: Iterable[Point]) -> Iterator[Point]:
        """Yield the points, with big integers as text."""
        for point in points:
            where = _first_beyond(point.payload)
            if where is None:
                yield point
                continue
            self.points += 1
            self.first = self.first or f"{point.payload['id']!r} ({where})"
            yield replace(point, payload=_integers_as_text(point.payload))

    @property
    def notice(self) -> str | None:
        """A line on the converted integers; None without any."""
        if not self.points:
            return None
        return (
            f"{self.points:,} points have whole numbers beyond 64 bits, sent as text: the first is chunk {self.first}"
        )


def same_payload(ours: Any, theirs: Any) -> bool:
    """Whether two payloads are the same JSON: 1, 1.0 and true differ, and the order of keys does not count."""
    return _canonical(ours) == _canonical(theirs)


def _canonical(payload: Any) -> bytes:
    return orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)


def _first_beyond(value: Any, path: str = "") -> str | None:
    """The path of the first integer that does not fit; None if all fit."""
    if type(value) is int:
        return None if LEAST <= value <= MOST else path
    if isinstance(value, dict):
        parts = ((f"{path}.{name}" if path else str(name), part) for name, part in value.items())
    elif isinstance(value, list):
        parts = ((f"{path}[{place}]", part) for place, part in enumerate(value))
    else:
        return None
    return next((found for where, part in parts if (found := _first_beyond(part, where)) is not None), None)


def _integers_as_text(value: Any) -> Any:
    if type(value) is int and not LEAST <= value <= MOST:
        return str(value)
    if isinstance(value, dict):
        return {name: _integers_as_text(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_integers_as_text(one) for one in value]
    return value
