"""The way of complete segments to disk: the ledger, and the threads that perform its actions.

One thread commits segments and derives ensembles, one publishes segments whose vectors all stand, and one checks the segments
of earlier sessions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..protocol.errors import DamagedChunks, EmbedfleetError
from ..protocol.process.system_refusals import describe_write_failure
from ..protocol.wire.export import ChunksDamaged, ExportFailed, ScrubbedMessage, SegmentDamagedMessage
from .index.publisher import Publisher
from .ledger import actions as do
from .ledger import events as on
from .ledger.ledger import Ledger
from .reports import Report, Reports
from .run_directory.owned_directory import RunDirectory
from .run_directory.scrub import scrub
from .segments.builder import SegmentBuilder
from .segments.committer import Committer

UNCOMMITTED_SEGMENTS = 3
"""Complete segments that may wait for the disk before the assembling thread waits too."""


class CommitPath:
    """The commit path of one session. Call its methods on the thread that assembles segments; all threads send reports."""

    def __init__(self, directory: RunDirectory, reports: Reports) -> None:
        self._layout, self._spec, self._reports = directory.layout, directory.spec, reports
        self.committer = Committer(directory)
        edge = self._spec.index == "edge"
        self.publisher = Publisher(self._layout, self._spec, self._guard) if edge else None
        self._ledger = Ledger(len(self._spec.passes), self.committer.members, publishes=edge)
        self._lock = threading.Lock()
        """Protects the ledger."""
        self._whole: dict[tuple[int, int], SegmentBuilder] = {}
        """By pass and segment: the segments that wait for the disk."""
        self._room = threading.BoundedSemaphore(UNCOMMITTED_SEGMENTS)
        self.failure = ""
        """Why nothing more can be committed; empty: it can."""
        self._closing = threading.Event()
        self._handle(self.committer.look())
        self._commits = ThreadPoolExecutor(1, "commit")
        self._scrubs = ThreadPoolExecutor(1, "scrub")
        self._scrubs.submit(self._guard, self._scrub, self._ledger.committed)

    @property
    def committed(self) -> tuple[tuple[int, ...], ...]:
        """By pass index: the segments that stand, or are being written."""
        return self._ledger.committed[: len(self._spec.passes)]

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent on the disk, and in the collection."""
        publishing = self.publisher.seconds if self.publisher is not None else 0.0
        return {"commit": self.committer.seconds, "publish": publishing}

    def takes(self, pass_index: int, segment: int) -> bool:
        """Whether results for a pass's segment are still needed."""
        return self._ledger.takes(pass_index, segment)

    def commit(self, pass_index: int, segment: int, builder: SegmentBuilder) -> None:
        """Take a complete segment; block while too many wait for the disk."""
        self._whole[pass_index, segment] = builder
        self._handle(on.RowsComplete(pass_index, segment))

    def chunks_read(self) -> None:
        """Note the end of the intake: complete the segments that waited for their chunks."""
        self._commits.submit(self._guard, self._handle, on.ChunksRead())

    def damage_told(self, pass_index: int, segment: int) -> None:
        """Note that the damage is being reported to the coordinator: results may come again."""
        self._handle(on.DamageTold(pass_index, segment))

    def stop(self, *, done: bool) -> None:
        """End the threads after the complete segments. Unless `done`, leave the publishing to the next session."""
        self._closing.set()
        self._scrubs.shutdown(wait=True)
        self._commits.shutdown(wait=True)
        if self.publisher is not None:
            self.publisher.stop(now=not done)

    def close_collection(self, *, done: bool) -> int:
        """Close the collection, with all segments if the run is done. Return its points; 0 without a collection."""
        if self.publisher is None:
            return 0
        if done:
            self.publisher.publish_rest(self.committer.dims)
        return self.publisher.close()

    def _handle(self, event: on.Event) -> None:
        """Pass an event to the ledger and perform its actions. Off the commit thread, these may only be Write or none."""
        with self._lock:
            actions = self._ledger.handle(event)
        for action in actions:
            self._perform(action)

    def _perform(self, action: do.Action) -> None:
        match action:
            case do.Write():
                self._room.acquire()
                written = self._commits.submit(self._guard, self._write, action)
                written.add_done_callback(lambda _written: self._room.release())
            case do.Derive(part, segment):
                self.committer.derive(part, segment)
                self._handle(on.Written(part, segment))
            case do.RemoveDerived(part, segments):
                self.committer.remove_derived(part, segments)
            case do.RemoveDamaged(segment, damage):
                self.committer.remove_damaged(damage.vector, segment)
            case do.TellDamage(segment, damage):
                self._reports.put(SegmentDamagedMessage(damage.part, segment, f"{damage.vector}: {damage.reason}"))
            case do.NoteFiles(segment, chunks):
                self.committer.note_files(segment, chunks=chunks)
            case do.Acknowledge(part, segment):
                self._reports.put(self.committer.acknowledged(part, segment))
            case _:
                assert self.publisher is not None, "Publish is asked for where there is one"
                self.publisher.publish(action.segment, self.committer.dims())

    def _write(self, action: do.Write) -> None:
        builder = self._whole.pop((action.part, action.segment))
        self.committer.write(action.part, action.segment, builder)
        self._handle(on.Written(action.part, action.segment))

    def _scrub(self, earlier: Sequence[Sequence[int]]) -> None:
        """Read again what earlier sessions left; publish the whole segments, remove the damaged ones."""
        for found in scrub(self._layout, self._spec, earlier, self._closing.is_set):
            if found.chunks:
                self._reports.put(ChunksDamaged(found.segment, found.chunks))
                return
            looked_at = on.LookedAt(found.segment, tuple(on.Damage(*one) for one in found.damaged))
            # One at a time: new results must not wait behind hundreds of segments for which an ensemble must be derived.
            self._commits.submit(self._guard, self._handle, looked_at).result()
        if not self._closing.is_set():  # else it may have stopped before the end
            self._commits.submit(self._guard, self._reports.put, ScrubbedMessage())

    def _guard(self, work: Callable[..., object], *arguments: Any) -> None:
        """Do the work, unless the run has failed; an error of it fails the run."""
        if self._ledger.failed:
            return
        try:
            work(*arguments)
        except DamagedChunks as error:  # found before the check reached this segment: repaired all the same
            where = self._layout.chunk_segment(error.segment)
            self._fail(f"{where}: {error.reason}", ChunksDamaged(error.segment, error.reason))
        except BaseException as error:  # noqa: BLE001 - any error, the engine's panics too, ends the run with one message
            why = self._explain(error)
            self._fail(why, ExportFailed(why))

    def _fail(self, why: str, report: Report) -> None:
        self.failure = self.failure or why or "it failed without a reason"
        self._handle(on.Failed())
        self._reports.put(report)

    def _explain(self, error: BaseException) -> str:
        if isinstance(error, EmbedfleetError):  # it names the place and the remedy
            return str(error)
        if self.publisher is not None and self.publisher.index.is_gone:
            return f"{self._layout.edge} is gone; run the same command again, which makes it anew"
        return describe_write_failure(error, self._layout.root)
