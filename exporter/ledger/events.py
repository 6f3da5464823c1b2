"""Events of a run's segments. Plain data.

A part of a segment is the output of one pass, or is derived from passes (an ensemble). Parts are numbered: first the passes,
as in the spec, then the derived parts.
"""

from __future__ import annotations

from msgspec import Struct


class Found(Struct, frozen=True):
    """The session begins. `standing`: the segments in the directory, by part. `chunks`: the chunk segments before the first
    gap; the intake removes those after it and reads them again."""

    standing: tuple[frozenset[int], ...]
    chunks: frozenset[int]


class RowsComplete(Struct, frozen=True):
    """Every row of a pass's segment has a result or an error."""

    part: int
    segment: int


class Written(Struct, frozen=True):
    """The files of a part stand under their final names and are synced."""

    part: int
    segment: int


class Damage(Struct, frozen=True):
    """Damage of a part of a segment. `vector` names the file, since a pass may have several."""

    part: int
    vector: str
    reason: str


class LookedAt(Struct, frozen=True):
    """The segment's files of earlier sessions were checked."""

    segment: int
    damaged: tuple[Damage, ...] = ()


class DamageTold(Struct, frozen=True):
    """The damage is being reported to the coordinator: results for the segment may come from now on."""

    part: int
    segment: int


class ChunksRead(Struct, frozen=True):
    """The intake has ended: all chunk segments stand."""


class Failed(Struct, frozen=True):
    """An action failed; those after it were not tried."""


Event = Found | RowsComplete | Written | LookedAt | DamageTold | ChunksRead | Failed
