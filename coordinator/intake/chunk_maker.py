"""Turn the records of a source file into chunks whose ids are not checked yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...protocol.source.source_file import SourceFile
from ...protocol.spec.run_spec import RunSpec
from ...protocol.text.preprocessing import preprocessor
from ..reading.records import Fields, Item, Noted, Numbered, Raw, Reject, excerpt
from .chunk_batch import ChunkBatch
from .conventions import conventions_of
from .id_index import text_digest
from .limits import TOO_DEEP, fault, too_deep
from .usual_fields import field_names

RIPE_ROWS = 1024
RIPE_BYTES = 4 << 20
"""Ids are checked in batches, as soon as a block of records reaches one of these."""


@dataclass(slots=True)
class PendingChunks:
    """Records of one file whose ids are not checked yet."""

    batch: ChunkBatch = field(default_factory=ChunkBatch)
    digests: list[bytes] = field(default_factory=list[bytes])
    rejects: list[tuple[int, Reject]] = field(default_factory=list[tuple[int, Reject]])
    notes: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    held: int = 0
    last: int = 0

    @property
    def ripe(self) -> bool:
        """Whether there are enough of them to check their ids."""
        records = max(len(self.digests) + len(self.rejects), len(self.notes))
        return records >= RIPE_ROWS or self.held >= RIPE_BYTES


class ChunkMaker:
    """Makes chunks by the run's conventions. `refused` is the first record that became no chunk, with its field names.

    `lines_before` returns how many records of a file come before those that are numbered; only records without an id need it.
    """

    def __init__(self, spec: RunSpec, lines_before: Callable[[SourceFile], int] = lambda _file: 0) -> None:
        self._lines_before = lines_before
        self._conventions = conventions_of(spec)
        self._preprocess = preprocessor(spec.preprocessing)
        self.refused: tuple[Reject, tuple[str, ...]] | None = None

    def take(self, file: SourceFile, block: Numbered, pending: PendingChunks) -> None:
        """Turn records into chunks or rejects, and note what was done to them."""
        read = self._conventions.read
        for number, item in block:
            notes: tuple[str, ...] = ()
            if type(item) is not dict:
                item, notes = self._unwrap(number, item, pending)
                if item is None:
                    continue
            fields = read(item)
            if isinstance(fields, tuple):
                self._add(file, number, fields, notes, pending)
            else:
                self._leave_out(number, item, fields, pending)
        if pending.rejects:
            self.refused = self.refused or (pending.rejects[0][1], ())
        if block:
            pending.last = block[-1][0]

    def _unwrap(self, number: int, item: Item, pending: PendingChunks) -> tuple[Raw | None, tuple[str, ...]]:
        """The record with its reader's notes; None if there is no record."""
        if isinstance(item, Reject):
            pending.rejects.append((number, item))
            return None, ()
        assert isinstance(item, Noted)
        if item.record is None:
            pending.notes += [(number, note) for note in item.notes]
        return item.record, item.notes

    def _leave_out(self, number: int, record: Raw, why: Reject | Noted, pending: PendingChunks) -> None:
        if isinstance(why, Noted):
            pending.notes += [(number, note) for note in why.notes]
            return
        pending.rejects.append((number, why))
        if self.refused is None or not self.refused[1]:
            self.refused = why, tuple(field_names(record))

    def _add(
        self, file: SourceFile, number: int, fields: Fields, notes: tuple[str, ...], pending: PendingChunks
    ) -> None:
        id_, raw_text, extra, done = fields
        text = self._preprocess(raw_text)
        data = text.encode()
        notes += done
        if file.collection is not None:
            extra, done = self._conventions.with_folder(extra, file.collection)
            notes += done
        metadata, reason = None, None
        try:
            metadata = None if extra is None else self._conventions.write(extra)
        except (TypeError, RecursionError) as error:
            reason = TOO_DEEP if too_deep(extra) else f"metadata cannot be kept as JSON: {error}"
        reason = reason or fault(data, extra, metadata)
        met = self._conventions.met
        if met:
            notes += tuple(met)
            met.clear()
        if reason is not None:
            pending.rejects.append((number, Reject(reason, excerpt(raw_text), id_)))
            return
        batch = pending.batch
        batch.numbers.append(number)
        batch.ids.append(f"{file.name}#{self._lines_before(file) + number}" if id_ is None else id_)
        batch.texts.append(text)
        batch.metadata.append(metadata)
        batch.n_bytes.append(len(data))
        pending.digests.append(text_digest(data))
        pending.held += len(data) + (len(metadata) if metadata else 0)
        if notes:
            pending.notes += [(number, note) for note in dict.fromkeys(notes)]
