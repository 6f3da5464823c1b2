"""Make chunks of sampled records by the run's conventions, and count what became of each record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ...protocol.source.source_file import SourceFile
from ...protocol.spec.run_spec import RunSpec
from ..intake.chunk_batch import ChunkBatch
from ..intake.chunk_maker import ChunkMaker, PendingChunks
from .record_stream import parsed
from .sampling import Record


@dataclass(slots=True)
class Outcome:
    """`looked_at` records, of which `batch` became chunks. The rest was rejected, is a duplicate, or was skipped."""

    batch: ChunkBatch = field(default_factory=ChunkBatch)
    looked_at: int = 0
    rejected: int = 0
    duplicates: int = 0
    conflicts: int = 0
    """Rejected records whose id belongs to another text."""

    @property
    def text_bytes(self) -> int:
        return sum(self.batch.n_bytes)


class SampleChunks:
    """Takes records in the order of the source. `maker` knows the first record that became no chunk."""

    def __init__(self, spec: RunSpec, files: Sequence[SourceFile]) -> None:
        self._files, self._limit = files, spec.limit
        self.maker = ChunkMaker(spec)
        self._texts: dict[str, bytes] = {}
        """By id, the digest of its text."""

    def take(self, records: Iterable[Record]) -> Outcome:
        """What became of these records. A `--limit` ends it with the last chunk of the run."""
        outcome = Outcome()
        for at, mine in groupby(records, key=lambda one: one.at):
            pending = PendingChunks()
            block = [(number, parsed(found)) for _, number, found in mine]
            self.maker.take(self._files[at], block, pending)
            last = self._admit(outcome, pending)
            outcome.looked_at += sum(number <= last for number, _ in block) if last is not None else len(block)
            outcome.rejected += sum(last is None or number <= last for number, _ in pending.rejects)
            if last is not None:
                break
        outcome.rejected += outcome.conflicts
        return outcome

    def _admit(self, outcome: Outcome, pending: PendingChunks) -> int | None:
        """Add the chunks with new ids. Return the number of the record that reached the limit."""
        batch, kept = pending.batch, list[int]()
        for place, (id_, digest) in enumerate(zip(batch.ids, pending.digests, strict=True)):
            before = self._texts.setdefault(id_, digest)
            if before is digest:
                kept.append(place)
                if len(outcome.batch) + len(kept) == self._limit:
                    break
            elif before == digest:
                outcome.duplicates += 1
            else:
                outcome.conflicts += 1
        outcome.batch.extend(batch if len(kept) == len(batch) else batch.only(kept))
        reached = self._limit is not None and len(outcome.batch) >= self._limit
        return batch.numbers[kept[-1]] if reached and kept else None
