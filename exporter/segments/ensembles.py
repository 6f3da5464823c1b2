"""Which segments of the run's ensembles stand, and the deriving of those that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from ...protocol.run_directory.atomic_files import sync_folder
from ...protocol.spec.ensemble_spec import EnsembleSpec
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.output_dims import output_dims
from ..run_directory.owned_directory import RunDirectory
from ..run_directory.scrub import vector_damage
from .ensemble_writer import derive_segment, ensemble_fingerprint


class Ensembles:
    """Of one run. `standing` and `derive` belong to the thread that commits."""

    def __init__(self, directory: RunDirectory, passes: Sequence[set[int]]) -> None:
        """`passes` has, for each pass, the segments that stand; an ensemble of others is removed, and derived anew."""
        self._directory, self._spec = directory, directory.spec
        numbers = {output.vector: n for n, one in enumerate(self._spec.passes) for output in one.outputs}
        self._members = {one.vector: [numbers[name] for name in one.members] for one in self._spec.ensembles}
        self._passes = passes
        self._standing = {one.vector: directory.standing(one.vector) for one in self._spec.ensembles}
        for one in self._spec.ensembles:
            self._remove(one, self._standing[one.vector] - self._whole(one))

    def stand(self, segment: int) -> bool:
        """Whether the segment has all its ensembles."""
        return all(segment in standing for standing in self._standing.values())

    def forget(self, segment: int) -> None:
        """A member of it was damaged: the ensembles are made of the one that comes in its place. OSError from the disk."""
        for one in self._spec.ensembles:
            self._remove(one, {segment} & self._standing[one.vector])

    def drop_damaged(self, segment: int) -> None:
        """Remove what of an earlier session is not as it was written; it is derived again. OSError from the disk."""
        for one in self._spec.ensembles:
            if segment in self._standing[one.vector] and vector_damage(self._directory.layout, one.vector, segment):
                self._remove(one, {segment})

    def derive(self, segment: int, fingerprints: Mapping[int, Fingerprint]) -> bool:
        """Commit the ensembles of a segment whose members all stand; nothing for the others. OSError from the disk.

        Whether there was something to commit.
        """
        derived = False
        for one in self._spec.ensembles:
            if segment in self._standing[one.vector] or segment not in self._whole(one):
                continue
            dim = output_dims(self._spec, fingerprints)[one.vector]
            members = dict(zip(one.members, (fingerprints[n] for n in self._members[one.vector]), strict=True))
            fingerprint = ensemble_fingerprint(one, dim, members)
            self._directory.begin_ensemble(one, fingerprint)
            derive_segment(self._directory.layout, one, segment, dim, fingerprint.digest())
            self._standing[one.vector].add(segment)
            derived = True
        return derived

    def _remove(self, one: EnsembleSpec, segments: Set[int]) -> None:
        """Before any member of them is written again: after a power cut, an old one would pass for one of the new member."""
        if not segments:
            return
        for segment in segments:
            self._directory.layout.vector_segment(one.vector, segment).unlink()
        sync_folder(self._directory.layout.vector_folder(one.vector))
        self._standing[one.vector] -= segments

    def _whole(self, one: EnsembleSpec) -> set[int]:
        return set[int].intersection(*(self._passes[number] for number in self._members[one.vector]))
