"""What `stats.json` holds, and what a session hands the exporter for it."""

from __future__ import annotations

from typing import Any

import msgspec

from .histogram import Number
from .pass_stats import PassStats, SessionPass

SampleRecord = dict[str, int | dict[str, Number | None]]
"""`samples`, how many there were, and each measure with `min`, `mean` and `max`."""


class ProcessingStats(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of the coordinator's host in this session, and of workers by vector and device."""

    host: SampleRecord = {}
    passes: dict[str, dict[str, SampleRecord]] = {}


class SessionStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a session says of itself."""

    run: str = ""
    seconds: float = 0.0
    passes: tuple[SessionPass, ...] = ()
    processing_stats: ProcessingStats = ProcessingStats()


class RunStats(msgspec.Struct, frozen=True, kw_only=True):
    """The file: the passes of all sessions, the rest of the last one."""

    run: str = ""
    seconds: float = 0.0
    passes: tuple[PassStats, ...] = ()
    processing_stats: ProcessingStats = ProcessingStats()
    status: str = ""
    error: str = ""
    export_seconds: dict[str, float] = {}
    """Of the exporter's threads: `commit`, `publish`."""

    def by_vector(self) -> dict[str, PassStats]:
        return {one.vector: one for one in self.passes}


def as_values(stats: msgspec.Struct) -> Any:
    """JSON values: the buckets of a histogram are texts there."""
    return msgspec.to_builtins(stats, str_keys=True)


def session_of(values: object) -> SessionStats:
    """The session's figures, from JSON values."""
    return msgspec.convert(values, SessionStats, str_keys=True)
