"""Events of a run's segments. Plain data.

A part of a segment is the output of one pass, or is derived from passes (an ensemble). Parts are numbered: first the passes,
as in the spec, then the derived parts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """The session begins. `standing`: the segments in the directory, by part. `chunks`: the chunk segments before the first
    gap; the intake removes those after it and reads them again."""

    standing: tuple[frozenset[int], ...]
    chunks: frozenset[int]


@dataclass(frozen=True, slots=True)
class RowsComplete:
    """Every row of a pass's segment has a result or an error."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a part stand under their final names and are synced."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage of a part of a segment. `vector` names the file, since a pass may have several."""

    part: int
    vector: str
    reason: str


@dataclass(frozen=True, slots=True)
class LookedAt:
    """The segment's files of earlier sessions were checked."""

    segment: int
    damaged: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True)
class DamageTold:
    """The damage is being reported to the coordinator: results for the segment may come from now on."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class ChunksRead:
    """The intake has ended: all chunk segments stand."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An action failed; those after it were not tried."""


Event = Found | RowsComplete | Written | LookedAt | DamageTold | ChunksRead | Failed
