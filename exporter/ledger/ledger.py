"""The ledger: the state of each part of each segment. All transitions are in this file.

A part of a segment goes through these states; results for it are taken only while it has none.

    -         -> WRITING    its rows are complete (a pass), or its members stand (a derived part)
    WRITING   -> STANDING   its files are durable
    EARLIER   -> STANDING   it stood when the session began, and was read again
    EARLIER   -> REMOVED    it was damaged (a pass); a damaged derived part loses its state, and is derived again
    REMOVED   -> -          the coordinator was informed

A pass's segment is acknowledged once it stands, after everything that can then be derived of it. A segment is published once
all its parts stand. After a failure no action follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from .actions import (
    Acknowledge,
    Action,
    Derive,
    NoteFiles,
    Publish,
    RemoveDamaged,
    RemoveDerived,
    TellDamage,
    Write,
)
from .events import ChunksRead, DamageTold, Event, Failed, Found, LookedAt, RowsComplete, Written


class Place(Enum):
    """The state of a part of a segment."""

    EARLIER = "stands since an earlier session; not checked yet"
    WRITING = "is being written"
    STANDING = "stands"
    REMOVED = "was damaged and is removed; not reported yet"


class Ledger:
    """The ledger of one session of a run."""

    def __init__(self, passes: int, derived: Sequence[Sequence[int]] = (), *, publishes: bool = False) -> None:
        """`derived` lists, for each derived part, the passes that it is made of."""
        self._members = dict(enumerate(derived, start=passes))
        self._publishes = publishes
        self._places: list[dict[int, Place]] = [{} for _ in range(passes + len(derived))]
        """By part and segment; a segment without a place must still be made."""
        self._chunks = set[int]()
        """Segments whose chunks are known to stand, until the intake has ended."""
        self._chunks_read = False
        self.failed = False

    @property
    def committed(self) -> tuple[tuple[int, ...], ...]:
        """By part: the segments for which no results are taken."""
        return tuple(tuple(sorted(places)) for places in self._places)

    def takes(self, part: int, segment: int) -> bool:
        """Whether results for a pass's segment are still of use."""
        return not self.failed and segment not in self._places[part]

    def handle(self, event: Event) -> list[Action]:
        """Note an event. Return the actions that it requires."""
        if self.failed or isinstance(event, Failed):
            self.failed = True
            return []
        match event:
            case Found():
                return self._find(event)
            case RowsComplete(part, segment):
                self._places[part][segment] = Place.WRITING
                return [Write(part, segment)]
            case Written(part, segment):
                return self._written(part, segment)
            case DamageTold(part, segment):
                del self._places[part][segment]
                return []
            case ChunksRead():
                return self._read()
            case _:
                return self._looked_at(event)

    def _find(self, event: Found) -> list[Action]:
        """Take the segments on disk. Remove derived ones without all their members: a new member may replace the old one."""
        actions: list[Action] = []
        self._chunks |= event.chunks
        for part, segments in enumerate(event.standing):
            members = [event.standing[member] for member in self._members.get(part, ())]
            kept = segments.intersection(*members)
            self._places[part] = dict.fromkeys(kept, Place.EARLIER)
            if kept != segments:
                actions.append(RemoveDerived(part, tuple(sorted(segments - kept))))
        return actions

    def _written(self, part: int, segment: int) -> list[Action]:
        self._places[part][segment] = Place.STANDING
        self._chunks.add(segment)  # its ids come from there
        acknowledged = [] if part in self._members else [Acknowledge(part, segment)]
        return [*self._go_on(segment), *acknowledged]

    def _looked_at(self, event: LookedAt) -> list[Action]:
        segment, actions = event.segment, list[Action]()
        bad = {damage.part for damage in event.damaged}
        for part, members in self._members.items():
            if self._is(part, segment, Place.EARLIER) and not bad.isdisjoint((part, *members)):
                del self._places[part][segment]
                actions.append(RemoveDerived(part, (segment,)))
        for damage in event.damaged:
            if damage.part not in self._members:
                self._places[damage.part][segment] = Place.REMOVED
                actions += (RemoveDamaged(segment, damage), TellDamage(segment, damage))
        actions.append(NoteFiles(segment, segment in self._chunks))
        whole = [places for places in self._places if places.get(segment) is Place.EARLIER]
        for places in whole:
            places[segment] = Place.STANDING
        return [*actions, *self._go_on(segment)] if whole else actions

    def _read(self) -> list[Action]:
        waiting = set[int]().union(*self._places) - self._chunks
        self._chunks_read = True
        return [action for segment in sorted(waiting) for action in self._go_on(segment)]

    def _go_on(self, segment: int) -> list[Action]:
        """Actions for a segment: derive the parts whose members stand; publish it once all parts stand."""
        if not self._chunks_read and segment not in self._chunks:
            return []
        actions: list[Action] = []
        for part, members in self._members.items():
            stand = all(self._is(member, segment, Place.STANDING) for member in members)
            if stand and segment not in self._places[part]:
                self._places[part][segment] = Place.WRITING
                actions.append(Derive(part, segment))
        if self._publishes and all(places.get(segment) is Place.STANDING for places in self._places):
            actions.append(Publish(segment))
        return actions

    def _is(self, part: int, segment: int, place: Place) -> bool:
        return self._places[part].get(segment) is place
