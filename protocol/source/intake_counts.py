"""The totals of an intake: `chunks/intake.json`, which the coordinator's intake writes and others read."""

from __future__ import annotations

import msgspec


class IntakeCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`complete` says that the source was read to its end (or to the limit)."""

    segments: int
    rows: int
    rejected: int
    duplicates: int
    complete: bool
    notes: dict[str, int] = {}
    """Records by what was done to them, with the keys of `intake_notes.py`."""


class IntakeRecord(IntakeCounts, frozen=True, kw_only=True, omit_defaults=True):
    """The content of `chunks/intake.json`."""

    finished: tuple[str, ...] = ()
    """Digests of the files that were read to their end since the last segment's cursor, as in `Passed`."""
