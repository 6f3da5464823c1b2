"""Actions of the ledger. Plain data; perform them in order and stop at the first that fails."""

from __future__ import annotations

from dataclasses import dataclass

from .events import Damage


@dataclass(frozen=True, slots=True)
class Write:
    """Commit a pass's files of the segment; answer with Written."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Derive:
    """Make a derived part of the segment from its members' files and commit it; answer with Written."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class RemoveDerived:
    """Remove segments of a derived part durably, before any of their members is written again."""

    part: int
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RemoveDamaged:
    segment: int
    damage: Damage


@dataclass(frozen=True, slots=True)
class TellDamage:
    """Report to the coordinator that the segment must be computed again; answer with DamageTold."""

    segment: int
    damage: Damage


@dataclass(frozen=True, slots=True)
class NoteFiles:
    """Remember the files of the segment, which are whole; with `chunks`, that of its chunks too."""

    segment: int
    chunks: bool


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Report to the coordinator that the pass's segment is committed."""

    part: int
    segment: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Put the segment into the collection."""

    segment: int


Action = Write | Derive | RemoveDerived | RemoveDamaged | TellDamage | NoteFiles | Acknowledge | Publish
