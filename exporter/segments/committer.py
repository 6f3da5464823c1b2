"""Performs the ledger's actions on disk: writes, derives and removes segments, on the thread that commits."""

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
    """The committer of one run. OSError from the disk; DamagedChunks if the chunks of a segment cannot be read."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory, self._layout, self._spec = directory, directory.layout, directory.spec
        found = {number: directory.fingerprint(number) for number in range(len(self._spec.passes))}
        self.fingerprints: Mapping[int, Fingerprint] = {number: one for number, one in found.items() if one is not None}
        """By pass, once its model is known."""
        self.stamps = FileStamps()
        """Of the files that this session wrote or read again."""
        self.wrote, self.seconds = False, 0.0
        numbers = {output.vector: number for number, one in enumerate(self._spec.passes) for output in one.outputs}
        self.members = [[numbers[name] for name in one.members] for one in self._spec.ensembles]
        """The member passes of each ensemble."""
        self._begun: dict[tuple[int, int], tuple[CommittedSegment, float]] = {}
        """By pass and segment, until the acknowledgement: the written segment and when its commit began."""

    def look(self) -> Found:
        """Find the committed segments in the directory; remove torn files."""
        passes = [self._directory.committed(number) for number in range(len(self._spec.passes))]
        ensembles = [self._directory.standing(one.vector) for one in self._spec.ensembles]
        chunks = (at for at, segment in enumerate(segments_in(self._layout.chunks)) if at == segment)
        return Found(tuple(map(frozenset, [*passes, *ensembles])), frozenset(chunks))

    def begin_pass(self, number: int, fingerprint: Fingerprint, placement: str) -> None:
        """Take the model of a pass, on the thread that assembles. SpecMismatch if the committed segments are of another one."""
        self._directory.begin_pass(number, fingerprint, placement)
        self.fingerprints = {**self.fingerprints, number: fingerprint}  # new, since other threads iterate over it

    def dims(self) -> dict[str, int]:
        return output_dims(self._spec, self.fingerprints)

    def write(self, number: int, segment: int, builder: SegmentBuilder) -> None:
        """Commit a segment of a pass, with its metadata fallback."""
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
        """The report on a committed segment. Its seconds include those of its ensembles."""
        done, start = self._begun.pop((number, segment))
        seconds = time.monotonic() - start
        self.seconds += seconds
        return Committed(number, segment, done.rows, done.quarantined, seconds)

    def derive(self, part: int, segment: int) -> None:
        """Commit a segment of an ensemble."""
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
        """Remove segments of an ensemble for certain, before a member is written again.

        Otherwise, after a power cut, a segment of the old member could pass for one of the new member.
        """
        vector = self._spec.ensembles[part - len(self._spec.passes)].vector
        for segment in segments:
            self._layout.vector_segment(vector, segment).unlink()
        sync_folder(self._layout.vector_folder(vector))

    def remove_damaged(self, vector: str, segment: int) -> None:
        self._layout.vector_segment(vector, segment).unlink(missing_ok=True)

    def note_files(self, segment: int, *, chunks: bool) -> None:
        """Remember the identity of the segment's files, and of its chunk file if `chunks`."""
        for output in self._spec.outputs:
            self.stamps.note(self._layout.vector_segment(output.vector, segment))
        if chunks:
            self.stamps.note(self._layout.chunk_segment(segment))
