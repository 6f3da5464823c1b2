"""A seeded world around the ledger: rows, a disk, a collection and a coordinator, over as many sessions as a run takes.

A session has the threads of the exporter: rows come on one, one commits what is whole and looks at what stood, one publishes.
What happens next is drawn step by step. A session fails where an action does, is killed, or is interrupted, which drains what
is whole; the next one begins with what is on the disk then, where bits have flipped and files have gone. Everything is drawn
from `random.Random(seed)`: a seed that fails can be replayed.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable

from embedfleet.exporter.ledger import actions as do
from embedfleet.exporter.ledger import events as on
from embedfleet.exporter.ledger.ledger import Ledger

ROWS = 3
"""Of a segment."""
QUIET = 6
"""After so many sessions nothing goes wrong any more."""

Key = tuple[int, int]
"""Part and segment."""
Content = tuple[int, ...]
"""A pass's file has a number of its own, a derived one those of its members."""


class World:
    """A run, and its directory."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.passes = self.rng.randint(1, 3)
        pairs = list(itertools.combinations(range(self.passes), 2))
        self.members = dict(enumerate(self.rng.sample(pairs, self.rng.randint(0, len(pairs))), start=self.passes))
        """By derived part."""
        self.parts, self.segments = self.passes + len(self.members), self.rng.randint(1, 4)
        self.files: dict[Key, Content] = {}
        self.damaged: set[Key] = set()
        self.chunks: set[int] = set()
        self.published: dict[int, list[Content]] = {}
        self.numbers = itertools.count()
        self.sessions = self.steps = 0

    def run(self) -> None:
        """Sessions until one is done, and often some more. All stands then and is whole, of the members that stand, and
        published."""
        while not Session(self).run() or (not self.quiet and self.rng.random() < 0.7):
            assert self.sessions < 2 * QUIET, "it does not end"
            self._decay()
        assert set(self.files) == set(itertools.product(range(self.parts), range(self.segments)))
        assert not self.damaged
        for segment in range(self.segments):
            assert self.published[segment] == [self.files[part, segment] for part in range(self.parts)]
            for part in self.members:
                assert self.files[part, segment] == self.derived(part, segment)

    def derived(self, part: int, segment: int) -> Content:
        return tuple(number for member in self.members[part] for number in self.files[member, segment])

    @property
    def quiet(self) -> bool:
        return self.sessions >= QUIET

    def _decay(self) -> None:
        for key in sorted(self.files) if not self.quiet else []:
            fate = self.rng.random()
            if fate < 0.05:
                del self.files[key]
                self.damaged.discard(key)
            elif fate < 0.15:
                self.damaged.add(key)
        if not self.quiet and self.chunks and self.rng.random() < 0.3:
            self.chunks.remove(self.rng.choice(sorted(self.chunks)))


class Failure(Exception):
    """The disk or the engine refuses."""


class Session:
    """One exporter's hold of the directory."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        world.sessions += 1
        self.failing = 0.0 if world.quiet else self.rng.choice([0.0, 0.0, 0.05])
        self.ends_at = self.rng.choice([None, self.rng.randint(0, 80)]) if not world.quiet else None
        self.killed = self.rng.random() < 0.5
        self.ledger = Ledger(world.passes, list(world.members.values()), publishes=True)
        self.jobs: deque[do.Write | on.Event] = deque()
        """For the thread that commits."""
        self.in_hand: deque[do.Action] = deque()
        """What that thread is at, in order."""
        self.to_publish: deque[int] = deque()
        self.asked_to_publish: set[int] = set()
        self.missing: dict[Key, set[int]] = {}
        """By pass and segment: the rows of which nothing has come."""
        self.whole: set[Key] = set()
        """What was written in this session, or looked at and found to be as it was."""
        self.unacknowledged: set[Key] = set()
        self.unheard: deque[Key] = deque()
        """Damage that was told, and that the coordinator has not taken yet."""
        self.read = False

    def run(self) -> bool:
        """Whether the run is done."""
        try:
            self._open()
        except Failure:
            return False
        return self._work()

    def _open(self) -> None:
        world = self.world
        found = [frozenset(s for p, s in world.files if p == part) for part in range(world.parts)]
        world.chunks = set(range(next(s for s in itertools.count() if s not in world.chunks)))  # the intake reads on
        for action in self.ledger.handle(on.Found(tuple(found), frozenset(world.chunks))):
            self._perform(action)
        self.earlier = self.ledger.committed
        self.known = {(part, segment) for part in range(world.passes) for segment in self.earlier[part]}
        """What the coordinator takes for committed."""
        self.closed = set(self.known)
        """That of which no results are taken."""
        self.unseen = deque(sorted(world.chunks.union(*self.earlier)))

    def _work(self) -> bool:
        for step in itertools.count():
            moves = self._moves()
            if not moves or self.ledger.failed or step == self.ends_at:
                break
            self.world.steps += 1
            self.rng.choice(moves)()
        done = not self.ledger.failed and not self._moves()
        if not self.killed or done:
            self._drain(publish=done)
        if done:
            assert not self.unacknowledged
            assert self.known == set(itertools.product(range(self.world.passes), range(self.world.segments)))
        return done

    def _moves(self) -> list[Callable[[], None]]:
        """What may happen next; nothing once the coordinator would close the run."""
        moves: list[Callable[[], None]] = []
        if self.in_hand or self.jobs:
            moves += [self._commit] * 2
        if self.to_publish:
            moves.append(self._publish)
        if self.unheard:
            moves.append(self._hear)
        if self.unseen:
            moves.append(self._look)
        if not self.read:
            moves.append(self._read_on)
        if self._left():
            moves += [self._row] * 3
        return moves

    def _left(self) -> list[Key]:
        """Segments of passes that the coordinator has computed, of which rows are missing."""
        keys = itertools.product(range(self.world.passes), sorted(self.world.chunks))
        return [key for key in keys if key not in self.known and self.missing.get(key, {0})]

    def _row(self) -> None:
        """A result, or the reason why a row has none: in any order, now and then a second time, or for what stands."""
        keys = list(itertools.product(range(self.world.passes), sorted(self.world.chunks)))
        key = self.rng.choice(self._left() if self.rng.random() < 0.8 else keys)
        assert self.ledger.takes(*key) == (key not in self.closed)
        if key in self.closed:
            return
        missing = self.missing.setdefault(key, set(range(ROWS)))
        missing.discard(self.rng.randrange(ROWS))
        if not missing:
            self.closed.add(key)
            (write,) = self.ledger.handle(on.RowsComplete(*key))
            assert write == do.Write(*key)
            self.jobs.append(write)

    def _read_on(self) -> None:
        if len(self.world.chunks) < self.world.segments:
            self.world.chunks.add(len(self.world.chunks))
        else:
            self.read = True
            self.jobs.append(on.ChunksRead())

    def _look(self) -> None:
        segment = self.unseen.popleft()
        parts = [part for part, segments in enumerate(self.earlier) if segment in segments]
        bad = (part for part in parts if (part, segment) in self.world.damaged)
        self.jobs.append(on.LookedAt(segment, tuple(on.Damage(part, f"vector {part}", "damaged") for part in bad)))

    def _hear(self) -> None:
        key = self.unheard.popleft()
        assert self.ledger.handle(on.DamageTold(*key)) == []
        self.closed.remove(key)
        self.known.remove(key)

    def _commit(self) -> None:
        """One step of the thread that commits: an action's event is handled by it at once."""
        try:
            if self.in_hand:
                self._perform(self.in_hand.popleft())
            else:
                job = self.jobs.popleft()
                if isinstance(job, do.Write):
                    self._perform(job)
                else:
                    self._note(job)
                    self._handle(job)
        except Failure:
            self.in_hand.clear()
            self._fail()

    def _note(self, event: on.Event) -> None:
        if isinstance(event, on.LookedAt):
            bad = {damage.part for damage in event.damaged}
            parts = (part for part, segments in enumerate(self.earlier) if event.segment in segments)
            self.whole |= {(part, event.segment) for part in parts if part not in bad}

    def _handle(self, event: on.Event) -> None:
        self.in_hand.extendleft(reversed(self.ledger.handle(event)))

    def _publish(self) -> None:
        segment = self.to_publish.popleft()
        if self.rng.random() < self.failing:
            self._fail()
            return
        keys = [(part, segment) for part in range(self.world.parts)]
        assert self.whole.issuperset(keys), "published before all of it is known to be whole"
        assert segment in self.world.chunks
        self.world.published[segment] = [self.world.files[key] for key in keys]

    def _fail(self) -> None:
        assert self.ledger.handle(on.Failed()) == []
        assert not self.ledger.takes(0, 0)

    def _drain(self, *, publish: bool) -> None:
        """What is whole is committed. After a failure, what a thread has in hand is all that it does."""
        while self.in_hand or (self.jobs and not self.ledger.failed):
            self._commit()
        while publish and self.to_publish:
            self._publish()

    def _perform(self, action: do.Action) -> None:
        if self.rng.random() < self.failing:
            raise Failure
        files, damaged = self.world.files, self.world.damaged
        match action:
            case do.Write(part, segment) | do.Derive(part, segment):
                self._commit_file(part, segment)
                self._handle(on.Written(part, segment))
            case do.RemoveDerived(part, segments):
                for segment in segments:
                    del files[part, segment]
                    damaged.discard((part, segment))
                    self.whole.discard((part, segment))
            case do.RemoveDamaged(segment, damage):
                del files[damage.part, segment]
                damaged.remove((damage.part, segment))
            case do.TellDamage(segment, damage):
                assert (damage.part, segment) not in files, "told before it is removed"
                self.unheard.append((damage.part, segment))
            case do.NoteFiles(segment, chunks):
                assert not chunks or segment in self.world.chunks
            case do.Acknowledge(part, segment):
                self._acknowledge((part, segment))
            case do.Publish(segment):
                assert segment not in self.asked_to_publish, "published twice"
                self.asked_to_publish.add(segment)
                self.to_publish.append(segment)

    def _commit_file(self, part: int, segment: int) -> None:
        key, members = (part, segment), self.world.members
        assert key not in self.world.files, "committed twice"
        assert segment in self.world.chunks, "its chunks are not there"
        if part in members:
            of = {(member, segment) for member in members[part]}
            assert self.whole >= of, "derived of what is not known to be whole"
            self.world.files[key] = self.world.derived(part, segment)
        else:
            assert not self.missing[key], "committed before all its rows are there"
            old = [one for one, of in members.items() if part in of and (one, segment) in self.world.files]
            assert not old, "an ensemble of the old member stands"
            self.world.files[key] = (next(self.world.numbers),)
            self.unacknowledged.add(key)
        self.whole.add(key)

    def _acknowledge(self, key: Key) -> None:
        assert key in self.world.files, "acknowledged before it is durable"
        self.unacknowledged.remove(key)  # KeyError: twice
        self.known.add(key)
        for part, members in self.world.members.items():
            if key[0] in members and self.whole.issuperset((member, key[1]) for member in members):
                assert (part, key[1]) in self.world.files, "acknowledged before what is derived of it stands"
