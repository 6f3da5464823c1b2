"""The ledger: where each part of each segment stands. Everything that changes that is in this file.

A part of a segment goes through these places; results for it are taken only while it has none.

    -         -> WRITING    its rows are complete (a pass), or its members stand (a derived part)
    WRITING   -> STANDING   its files are durable
    EARLIER   -> STANDING   it stood when the session began, and was read again
    EARLIER   -> REMOVED    it was damaged (a pass); a derived part has no place then, and is derived again
    REMOVED   -> -          the coordinator was told

A pass's segment is acknowledged once it stands, and behind what can be derived of it then. A segment is published once all
its parts stand. After a failure nothing more is asked for.
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
    """Where a part of a segment stands."""

    EARLIER = "stands since an earlier session; nobody has looked at it yet"
    WRITING = "is being written"
    STANDING = "stands"
    REMOVED = "was damaged and is removed; nobody has been told yet"


class Ledger:
    """Of one session of a run."""

    def __init__(self, passes: int, derived: Sequence[Sequence[int]] = (), *, publishes: bool = False) -> None:
        """`derived` has, for each derived part, the passes that it is made of."""
        self._members = dict(enumerate(derived, start=passes))
        self._publishes = publishes
        self._places: list[dict[int, Place]] = [{} for _ in range(passes + len(derived))]
        """By part and segment; a segment without a place is still to be made."""
        self._chunks = set[int]()
        """Segments of which the chunks are known to stand, until all are."""
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
        """Take note of what happened; what is to be done now."""
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
        """A derived segment without its members is removed: another member may come in the place of the old one."""
        actions: list[Action] = []
        self._chunks |= event.chunks
        for part, segments in enumerate(event.standing):
            members = [event.standing[number] for number in self._members.get(part, ())]
            kept = segments.intersection(*members)
            self._places[part] = dict.fromkeys(kept, Place.EARLIER)
            if kept != segments:
                actions.append(RemoveDerived(part, tuple(sorted(segments - kept))))
        return actions

    def _written(self, part: int, segment: int) -> list[Action]:
        self._places[part][segment] = Place.STANDING
        self._chunks.add(segment)  # its ids come from there
        told = [] if part in self._members else [Acknowledge(part, segment)]
        return [*self._go_on(segment), *told]

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
        """Derive what the segment allows; publish it once all of it stands."""
        if not self._chunks_read and segment not in self._chunks:
            return []
        actions: list[Action] = []
        for part, members in self._members.items():
            stand = all(self._is(number, segment, Place.STANDING) for number in members)
            if stand and segment not in self._places[part]:
                self._places[part][segment] = Place.WRITING
                actions.append(Derive(part, segment))
        if self._publishes and all(places.get(segment) is Place.STANDING for places in self._places):
            actions.append(Publish(segment))
        return actions

    def _is(self, part: int, segment: int, place: Place) -> bool:
        return self._places[part].get(segment) is place
