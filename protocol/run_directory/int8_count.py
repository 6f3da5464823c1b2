"""Count how the segments of an int8 vector are stored, by their footers; for the manifest, `info` and `verify`."""

from __future__ import annotations

from typing import TypedDict

from .segment_info import VectorSegmentInfo


class Int8Record(TypedDict):
    """An Int8Count in JSON."""

    float16_segments: int
    worst_cosine: float | None


class Int8Count:
    """The segments of one vector of `--store int8`."""

    def __init__(self) -> None:
        self.float16_segments = 0
        """Segments stored as float16, because int8 would have a cosine below INT8_COSINE."""
        self._cosines: list[float | None] = []

    def add(self, info: VectorSegmentInfo) -> None:
        """Count a segment."""
        if info.storage == "float16":
            self.float16_segments += 1
        elif info.rows > info.quarantined:
            self._cosines.append(info.worst_cosine)

    @property
    def worst_cosine(self) -> float | None:
        """The smallest cosine of an int8 vector to the computed one; None if a segment lacks it, as in 0.1.0."""
        known = [one for one in self._cosines if one is not None]
        return min(known) if known and len(known) == len(self._cosines) else None

    def record(self) -> Int8Record:
        """The count and the cosine as JSON values."""
        return {"float16_segments": self.float16_segments, "worst_cosine": self.worst_cosine}
