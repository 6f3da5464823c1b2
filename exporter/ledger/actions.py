"""What the ledger wants done. Plain data; to be performed in order, and no further than the first that fails."""

from __future__ import annotations

from dataclasses import dataclass

from .events import Damage


@dataclass(frozen=True, slots=True)
class Write:
    """Commit what a pass has of the segment; answer with Written."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Derive:
    """Commit a derived part of the segment, made of its members' files; answer with Written."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class RemoveDerived:
    """Remove segments of a derived part for certain, before any member of them is written again."""

    part: int
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RemoveDamaged:
    segment: int
    damage: Damage


@dataclass(frozen=True, slots=True)
class TellDamage:
    """Let the coordinator know that the segment is to be computed again; answer with DamageTold."""

    segment: int
    damage: Damage


@dataclass(frozen=True, slots=True)
class NoteFiles:
    """What stands of the segment is whole: remember which files these are; those of its `chunks` too."""

    segment: int
    chunks: bool


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Let the coordinator know that the segment of the pass is committed."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Put the segment into the collection."""

    segment: int


Action = Write | Derive | RemoveDerived | RemoveDamaged | TellDamage | NoteFiles | Acknowledge | Publish
