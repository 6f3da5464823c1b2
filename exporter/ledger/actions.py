"""Actions of the ledger. Plain data; perform them in order and stop at the first that fails."""

from __future__ import annotations

from msgspec import Struct

from .events import Damage


class Write(Struct, frozen=True):
    """Commit a pass's files of the segment; answer with Written."""

    part: int
    segment: int


class Derive(Struct, frozen=True):
    """Make a derived part of the segment from its members' files and commit it; answer with Written."""

    part: int
    segment: int


class RemoveDerived(Struct, frozen=True):
    """Remove segments of a derived part durably, before any of their members is written again."""

    part: int
    segments: tuple[int, ...]


class RemoveDamaged(Struct, frozen=True):
    segment: int
    damage: Damage


class TellDamage(Struct, frozen=True):
    """Report to the coordinator that the segment must be computed again; answer with DamageTold."""

    segment: int
    damage: Damage


class NoteFiles(Struct, frozen=True):
    """Remember the files of the segment, which are whole; with `chunks`, that of its chunks too."""

    segment: int
    chunks: bool


class Acknowledge(Struct, frozen=True):
    """Report to the coordinator that the pass's segment is committed."""

    part: int
    segment: int


class Publish(Struct, frozen=True):
    """Put the segment into the collection."""

    segment: int


Action = Write | Derive | RemoveDerived | RemoveDamaged | TellDamage | NoteFiles | Acknowledge | Publish
