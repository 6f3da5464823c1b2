"""The JSON files in `intake/`: limits of the segments, files of the source, counts of the intake."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout

Positive = Annotated[int, msgspec.Meta(ge=1)]


class SegmentLimits(msgspec.Struct, frozen=True):
    """The content of `limits.json`. A segment ends with the row that reaches either limit; a token counts four bytes."""

    rows: Positive = 16_384
    tokens: Positive = 1_000_000
    first_rows: Positive | msgspec.UnsetType = msgspec.UNSET
    """Rows of the first segment, and tokens in proportion; each next one has twice as many, up to these limits. Unset: all are
    alike."""

    def of(self, segment: int) -> tuple[int, int]:
        """The most rows of a segment, and the tokens with which it is full."""
        first = self.first_rows if isinstance(self.first_rows, int) else self.rows
        rows = min(self.rows, first << min(segment, 32))
        return rows, max(1, self.tokens * rows // self.rows)


class FileStamp(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source file in `source.json`: path below the source, bytes of the whole file, and modification time."""

    path: str
    size: int
    mtime_ns: int
    e_tag: str = ""
    """What the store of a remote file says of its content."""
    start: int = 0
    end: int | None = None
    """Of a file that is divided among shards, the bytes in which the records begin that the shard reads; None: to the end."""


class IntakeCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of the intake. `complete`: the source was read to its end, or to the limit."""

    segments: int
    rows: int
    rejected: int
    duplicates: int
    complete: bool
    notes: dict[str, int] = {}
    """Records for each note of the intake (`protocol/source/intake_notes.py`)."""


class IntakeRecord(IntakeCounts, frozen=True, kw_only=True, omit_defaults=True):
    """The content of `counts.json`."""

    finished: tuple[str, ...] = ()
    """Digests of the files finished after the last segment's cursor, as in `Passed`."""


def read_limits(layout: RunLayout) -> SegmentLimits | None:
    """The limits of the segments; None where the file is missing. RunDirectoryError where it is damaged."""
    return read_json(layout.limits, SegmentLimits)


def read_intake(layout: RunLayout) -> IntakeRecord | None:
    """The totals of the intake; None before its end. RunDirectoryError where the file is damaged."""
    return read_json(layout.intake, IntakeRecord)
