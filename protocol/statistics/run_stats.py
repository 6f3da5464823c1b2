"""The content of `stats.json`, and the figures of a session that the exporter adds to it."""

from __future__ import annotations

from typing import Any

import msgspec

from .histogram import Number
from .pass_stats import PassStats, SessionPass

SampleRecord = dict[str, int | dict[str, Number | None]]
"""`samples` has their number; each other key is a measure with `min`, `mean` and `max`."""


class ProcessingStats(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of the coordinator's host in this session, and of workers by vector and device."""

    host: SampleRecord = {}
    passes: dict[str, dict[str, SampleRecord]] = {}


class SessionStats(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one session."""

    run: str = ""
    seconds: float = 0.0
    passes: tuple[SessionPass, ...] = ()
    processing_stats: ProcessingStats = ProcessingStats()


class RunStats(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file: passes of all sessions, everything else of the last one."""

    run: str = ""
    seconds: float = 0.0
    passes: tuple[PassStats, ...] = ()
    processing_stats: ProcessingStats = ProcessingStats()
    status: str = ""
    error: str = ""
    export_seconds: dict[str, float] = {}
    """Seconds of the exporter's threads `commit` and `publish`."""

    def by_vector(self) -> dict[str, PassStats]:
        return {one.vector: one for one in self.passes}


def as_values(stats: msgspec.Struct) -> Any:
    """The statistics as JSON values, with the buckets of histograms as strings."""
    return msgspec.to_builtins(stats, str_keys=True)


def session_of(values: object) -> SessionStats:
    """The figures of a session, from JSON values."""
    return msgspec.convert(values, SessionStats, str_keys=True)
