"""The disk's side of the ledger: segments are written, derived and removed, on the thread that commits."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ...protocol.run_directory.atomic_files import sync_folder
from ...protocol.run_directory.layout import segments_in
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.output_dims import output_dims
from ...protocol.wire.export import Committed
from ..ledger.events import Found
from ..run_directory.file_stamps import FileStamps
from ..run_directory.owned_directory import RunDirectory
from .builder import SegmentBuilder
from .ensemble_writer import derive_segment, ensemble_fingerprint
from .metadata_weights import fill_from_metadata
from .writer import CommittedSegment, commit_segment


class Committer:
    """Of one run. OSError from the disk; DamagedChunks where the chunks of a segment cannot be read."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory, self._layout, self._spec = directory, directory.layout, directory.spec
        found = {number: directory.fingerprint(number) for number in range(len(self._spec.passes))}
        self.fingerprints: Mapping[int, Fingerprint] = {number: one for number, one in found.items() if one is not None}
        """By pass: what its segments are computed with, where that is known."""
        self.stamps = FileStamps()
        """Of the segments that were committed or read again in this session."""
        self.wrote, self.seconds = False, 0.0
        numbers = {output.vector: number for number, one in enumerate(self._spec.passes) for output in one.outputs}
        self.members = [[numbers[name] for name in one.members] for one in self._spec.ensembles]
        """By ensemble: the passes that it is made of."""
        self._begun: dict[tuple[int, int], tuple[CommittedSegment, float]] = {}
        """By pass and segment, until it is acknowledged: what was written, and since when."""

    def look(self) -> Found:
        """What stands in the directory; torn files are removed."""
        passes = [self._directory.committed(number) for number in range(len(self._spec.passes))]
        ensembles = [self._directory.standing(one.vector) for one in self._spec.ensembles]
        chunks = (at for at, segment in enumerate(segments_in(self._layout.chunks)) if at == segment)
        return Found(tuple(map(frozenset, [*passes, *ensembles])), frozenset(chunks))

    def begin_pass(self, number: int, fingerprint: Fingerprint, placement: str) -> None:
        """SpecMismatch where the model is not the one of the committed segments. For the thread that assembles."""
        self._directory.begin_pass(number, fingerprint, placement)
        self.fingerprints = {**self.fingerprints, number: fingerprint}  # a new one: other threads go through it

    def dims(self) -> dict[str, int]:
        return output_dims(self._spec, self.fingerprints)

    def write(self, number: int, segment: int, builder: SegmentBuilder) -> None:
        """Commit a pass's segment."""
        one = self._spec.passes[number]
        if one.metadata_fallback is not None:
            fill_from_metadata(self._layout, one, segment, builder)
        start = time.monotonic()
        done = commit_segment(self._layout, segment, self.fingerprints[number].digest(), builder)
        self._begun[number, segment] = done, start
        self.wrote = True
        self.stamps.note_first(self._layout.chunk_segment(segment))
        for output in one.outputs:
            self.stamps.note(self._layout.vector_segment(output.vector, segment))

    def acknowledged(self, number: int, segment: int) -> Committed:
        """The report on a segment that was written. What was derived of it counts to its seconds."""
        done, start = self._begun.pop((number, segment))
        seconds = time.monotonic() - start
        self.seconds += seconds
        return Committed(number, segment, done.rows, done.quarantined, seconds)

    def derive(self, part: int, segment: int) -> None:
        """Commit an ensemble's segment."""
        one = self._spec.ensembles[part - len(self._spec.passes)]
        numbers = self.members[part - len(self._spec.passes)]
        members = {name: self.fingerprints[number] for name, number in zip(one.members, numbers, strict=True)}
        dim = self.dims()[one.vector]
        fingerprint = ensemble_fingerprint(one, dim, members)
        self._directory.begin_ensemble(one, fingerprint)
        derive_segment(self._layout, one, segment, dim, fingerprint.digest())
        self.wrote = True
        self.stamps.note(self._layout.vector_segment(one.vector, segment))

    def remove_derived(self, part: int, segments: tuple[int, ...]) -> None:
        """Before any member of them is written again: after a power cut, an old one would pass for one of the new member."""
        vector = self._spec.ensembles[part - len(self._spec.passes)].vector
        for segment in segments:
            self._layout.vector_segment(vector, segment).unlink()
        sync_folder(self._layout.vector_folder(vector))

    def remove_damaged(self, vector: str, segment: int) -> None:
        self._layout.vector_segment(vector, segment).unlink(missing_ok=True)

    def note_files(self, segment: int, *, chunks: bool) -> None:
        """Remember which files stand, those of the chunks too."""
        for output in self._spec.outputs:
            self.stamps.note(self._layout.vector_segment(output.vector, segment))
        if chunks:
            self.stamps.note(self._layout.chunk_segment(segment))
