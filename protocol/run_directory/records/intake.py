"""The JSON files in `chunks/`: how large its segments are, what the source was, and what the intake counted."""

from __future__ import annotations

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout


class SegmentLimits(msgspec.Struct, frozen=True):
    """`limits.json`. A segment ends with the row that reaches either; a token is taken to be four bytes."""

    rows: int = 16_384
    tokens: int = 1_000_000


class FileStamp(msgspec.Struct, frozen=True):
    """One entry of `source.json`, a source file as it was: path below the source, bytes, and time of change."""

    path: str
    size: int
    mtime_ns: int


class IntakeCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`complete` says that the source was read to its end (or to the limit)."""

    segments: int
    rows: int
    rejected: int
    duplicates: int
    complete: bool
    notes: dict[str, int] = {}
    """Records by what was done to them, with the keys of `protocol/source/intake_notes.py`."""


class IntakeRecord(IntakeCounts, frozen=True, kw_only=True, omit_defaults=True):
    """The content of `intake.json`."""

    finished: tuple[str, ...] = ()
    """Digests of the files that were read to their end since the last segment's cursor, as in `Passed`."""


def read_intake(layout: RunLayout) -> IntakeRecord | None:
    """The totals of the intake; None before its end. RunDirectoryError where the file is damaged."""
    return read_json(layout.intake, IntakeRecord)
