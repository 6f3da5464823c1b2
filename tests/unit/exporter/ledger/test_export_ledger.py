"""The ledger, event by event. Two passes and an ensemble of both, which is part 2, unless a test says otherwise."""

from __future__ import annotations

from embedfleet.exporter.ledger import actions as do
from embedfleet.exporter.ledger.events import (
    ChunksRead,
    Damage,
    DamageTold,
    Failed,
    Found,
    LookedAt,
    RowsComplete,
    Written,
)
from embedfleet.exporter.ledger.ledger import Ledger

BAD = Damage(0, "dense-a", "a bit flipped")


def ledger(*standing: set[int], chunks: set[int] | None = None, publishes: bool = True) -> Ledger:
    """With what stands of each part; `chunks` are 0 and 1 where nothing else is given."""
    made = Ledger(2, [(0, 1)], publishes=publishes)
    found = [frozenset(one) for one in standing] or [frozenset[int]()] * 3
    assert made.handle(Found(tuple(found), frozenset({0, 1} if chunks is None else chunks))) == []
    return made


def test_a_segment_is_acknowledged_once_it_is_written() -> None:
    one = ledger()
    assert one.takes(0, 0)
    assert one.handle(RowsComplete(0, 0)) == [do.Write(0, 0)]
    assert not one.takes(0, 0)
    assert one.committed == ((0,), (), ())
    assert one.handle(Written(0, 0)) == [do.Acknowledge(0, 0)]


def test_what_can_be_derived_stands_before_the_last_member_is_acknowledged() -> None:
    one = ledger()
    for part in (0, 1):
        one.handle(RowsComplete(part, 0))
    assert one.handle(Written(1, 0)) == [do.Acknowledge(1, 0)]
    assert one.handle(Written(0, 0)) == [do.Derive(2, 0), do.Acknowledge(0, 0)]
    assert one.handle(Written(2, 0)) == [do.Publish(0)]


def test_without_a_collection_nothing_is_published() -> None:
    one = Ledger(1)
    one.handle(Found((frozenset(),), frozenset()))
    one.handle(RowsComplete(0, 0))
    assert one.handle(Written(0, 0)) == [do.Acknowledge(0, 0)]


def test_what_stood_is_published_when_it_was_looked_at() -> None:
    one = ledger({0}, {0}, {0})
    assert one.handle(LookedAt(0)) == [do.NoteFiles(0, chunks=True), do.Publish(0)]
    assert one.handle(LookedAt(1)) == [do.NoteFiles(1, chunks=True)], "only its chunks are there"


def test_nothing_is_made_of_what_nobody_looked_at() -> None:
    one = ledger({0}, set(), set())
    one.handle(RowsComplete(1, 0))
    assert one.handle(Written(1, 0)) == [do.Acknowledge(1, 0)]
    assert one.handle(LookedAt(0)) == [do.NoteFiles(0, chunks=True), do.Derive(2, 0)]
    assert one.handle(Written(2, 0)) == [do.Publish(0)]


def test_what_is_published_is_not_published_again_when_its_chunks_are_looked_at() -> None:
    one = ledger()
    for part in (0, 1):
        one.handle(RowsComplete(part, 0))
        one.handle(Written(part, 0))
    assert do.Publish(0) in one.handle(Written(2, 0))
    assert one.handle(LookedAt(0)) == [do.NoteFiles(0, chunks=True)]


def test_a_damaged_pass_takes_its_ensemble_with_it_and_is_computed_again() -> None:
    one = ledger({0}, {0}, {0})
    assert one.handle(LookedAt(0, (BAD,))) == [
        do.RemoveDerived(2, (0,)),
        do.RemoveDamaged(0, BAD),
        do.TellDamage(0, BAD),
        do.NoteFiles(0, chunks=True),
    ]
    assert not one.takes(0, 0), "nobody was told yet"
    assert one.handle(DamageTold(0, 0)) == []
    assert one.takes(0, 0)
    assert one.handle(RowsComplete(0, 0)) == [do.Write(0, 0)]
    assert one.handle(Written(0, 0)) == [do.Derive(2, 0), do.Acknowledge(0, 0)]


def test_a_damaged_ensemble_is_derived_again_and_nobody_computes_anything() -> None:
    one = ledger({0}, {0}, {0})
    damage = Damage(2, "ensemble-average", "a bit flipped")
    assert one.handle(LookedAt(0, (damage,))) == [
        do.RemoveDerived(2, (0,)),
        do.NoteFiles(0, chunks=True),
        do.Derive(2, 0),
    ]


def test_an_ensemble_whose_member_is_gone_goes_when_the_session_begins() -> None:
    one = Ledger(2, [(0, 1)])
    found = Found((frozenset({0}), frozenset({0, 1, 2}), frozenset({0, 1, 2})), frozenset({0, 1, 2}))
    assert one.handle(found) == [do.RemoveDerived(2, (1, 2))]
    assert one.committed == ((0,), (0, 1, 2), (0,))


def test_what_waits_for_its_chunks_goes_on_when_all_are_read() -> None:
    one = ledger({0, 1}, {0, 1}, set(), chunks={0})
    assert one.handle(LookedAt(0)) == [do.NoteFiles(0, chunks=True), do.Derive(2, 0)]
    assert one.handle(LookedAt(1)) == [do.NoteFiles(1, chunks=False)]
    assert one.handle(ChunksRead()) == [do.Derive(2, 1)]
    assert one.handle(Written(2, 1)) == [do.Publish(1)]


def test_what_is_looked_at_after_the_chunks_are_read_waits_for_nothing() -> None:
    one = ledger({0}, {0}, set(), chunks=set())
    assert one.handle(ChunksRead()) == []
    assert one.handle(LookedAt(0)) == [do.NoteFiles(0, chunks=False), do.Derive(2, 0)]


def test_after_a_failure_nothing_more_is_asked_for() -> None:
    one = ledger()
    one.handle(RowsComplete(0, 0))
    assert one.handle(Failed()) == []
    assert one.failed
    assert not one.takes(0, 1)
    assert one.handle(Written(0, 0)) == []
    assert one.handle(LookedAt(1, (BAD,))) == []
