"""What can happen to the segments of a run. Plain data.

A part of a segment is what one pass makes of it, or what is derived of passes (an ensemble). Parts are numbered: the passes
first, as in the spec, then the derived ones.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """The session begins. By part: the segments that stand in the directory. `chunks` stand without a gap; those behind one
    are the intake's to remove and to read again."""

    standing: tuple[frozenset[int], ...]
    chunks: frozenset[int]


@dataclass(frozen=True, slots=True)
class RowsComplete:
    """Each row of a pass's segment has a result or a reason."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a part stand under their final names and are synced."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a part of a segment. `vector` names the file: a pass may have several."""

    part: int
    vector: str
    reason: str


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What earlier sessions left of the segment was read again."""

    segment: int
    damaged: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True)
class DamageTold:
    """The coordinator hears of it next: results for the segment may come from now on."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class ChunksRead:
    """The intake has ended: all chunk segments stand."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An action could not be performed; those after it were not tried."""


Event = Found | RowsComplete | Written | LookedAt | DamageTold | ChunksRead | Failed
