"""Take a run directory: with one writer, one spec, and the segments already committed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
from msgspec import UNSET

from ...protocol.errors import RunDirectoryError, SourceError, SpecMismatch, unreadable
from ...protocol.run_directory.atomic_files import commit_bytes, make_folder, sync_folder
from ...protocol.run_directory.directory_lock import drop_lock, take_lock
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.own_files import (
    find_wrong_kind,
    holds_source,
    is_foreign,
    is_vector_file,
    read_owner,
    wrong_kind_error,
)
from ...protocol.run_directory.records.passes import PassRecord, pass_remedy, read_pass
from ...protocol.run_directory.removal import clear_run
from ...protocol.source.check import is_moved, read_trail, unchanged_files
from ...protocol.source.corpus import STDIN, Corpus, is_gone, survey
from ...protocol.spec.differences import differences
from ...protocol.spec.ensemble_spec import EnsembleSpec
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import FLAGS, Output, RunSpec
from ...protocol.text.preprocessing import POLICIES
from .balance import find_strays, read_ended_intake
from .spec_change import change, may_change

_MAGIC = b"PAR1"


class RunDirectory:
    """A run directory that this process holds.

    RunDirectoryError or SpecMismatch if it cannot be taken, SourceError if its source has changed; it is then unchanged.
    """

    def __init__(self, root: Path, spec: RunSpec, *, restart: bool) -> None:
        self.layout, self.spec = RunLayout(root), spec
        try:
            if root.exists() and not root.is_dir():
                raise RunDirectoryError(f"--out {root} is a file; give a folder")
            if root.is_symlink() and not root.exists():
                raise RunDirectoryError(f"--out {root} is a link that leads nowhere; give a folder")
            if root.is_dir():
                self._look(restart)
            make_folder(root)
            self._lock = take_lock(self.layout, f"--out {root}")
            try:
                self._prepare(restart)
            except BaseException:
                self.release()
                raise
        except OSError as error:
            where = f" ({error.filename})" if error.filename not in (None, str(root)) else ""
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "make room and run the same command again" if full else "give a folder that can be written"
            raise RunDirectoryError(f"--out {root}: {error.strerror or error}{where}; {remedy}") from error

    def committed(self, pass_index: int) -> list[int]:
        """The segments of a pass whose files are all whole. Removes partial and torn files, which are computed again."""
        standing = [self.standing(one.vector) for one in self.spec.passes[pass_index].outputs]
        return sorted(set[int].intersection(*standing))

    def fingerprint(self, pass_index: int) -> Fingerprint | None:
        """The fingerprint of a pass's committed segments; None before the first."""
        return self._read(self.spec.passes[pass_index].outputs[0].vector)

    def begin_pass(self, pass_index: int, fingerprint: Fingerprint, placement: str = "") -> None:
        """Write the record of each output, or check that the model is the one recorded there; SpecMismatch if it is not.

        Its `placements` collect, for audit, where the model was in each session that computed something.
        """
        one = self.spec.passes[pass_index]
        self._compare(one.vector, self.fingerprint(pass_index), fingerprint)
        for output in reversed(one.outputs):  # the first output's file comes last: readers look for it
            self._describe(output, fingerprint, placement)

    def begin_ensemble(self, one: EnsembleSpec, fingerprint: Fingerprint) -> None:
        """Like `begin_pass`, for an ensemble."""
        self._compare(one.vector, self._read(one.vector), fingerprint)
        output = next(output for output in self.spec.outputs if output.vector == one.vector)
        self._describe(output, fingerprint, "", one)

    def release(self) -> None:
        """Release the lock."""
        drop_lock(self._lock)

    def standing(self, vector: str) -> set[int]:
        """The whole segments of one vector. Removes partial and torn files."""
        folder = self.layout.vector_folder(vector)
        for stray in folder.glob(".*.tmp"):
            if is_vector_file(stray.name):
                stray.unlink()
        whole: set[int] = set()
        for segment in segments_in(folder):
            path = self.layout.vector_segment(vector, segment)
            if _ends_whole(path):
                whole.add(segment)
            else:
                path.unlink()
        return whole

    def _read(self, vector: str) -> Fingerprint | None:
        try:
            record = read_pass(self.layout, vector)
            return record.identity() if record is not None else None
        except (RunDirectoryError, msgspec.ValidationError) as error:
            path, reason = self.layout.pass_file(vector), error.__cause__ or error
            damage = f"{path} cannot be read ({reason}); {pass_remedy(self.layout, vector)}"
            raise unreadable(path, reason, damage) from error

    def _compare(self, vector: str, before: Fingerprint | None, fingerprint: Fingerprint) -> None:
        found = fingerprint.differences(before) if before is not None else []
        if found:
            raise SpecMismatch(
                f"--out {self.layout.root}: {vector} was computed with another model: {'; '.join(found)}. "
                "--restart starts over"
            )

    def _describe(
        self, output: Output, fingerprint: Fingerprint, placement: str, ensemble: EnsembleSpec | None = None
    ) -> None:
        path, before = self.layout.pass_file(output.vector), read_pass(self.layout, output.vector)
        added = (placement,) if placement else ()
        if before is not None:
            if placement and placement not in (before.placements or ()):
                content = msgspec.json.decode(path.read_bytes())  # with what a later version has put there
                commit_bytes(path, pretty_json(content | {"placements": (*(before.placements or ()), *added)}))
            return
        record = PassRecord(
            vector=output.vector,
            kind=output.kind,
            form=output.form,
            fingerprint=fingerprint.digest(),
            **msgspec.structs.asdict(fingerprint),
            output_dim=fingerprint.dim_of(output.form),
            method=ensemble.method if ensemble is not None else UNSET,
            members=ensemble.members if ensemble is not None else UNSET,
            storage=output.storage if output.form == "dense" else UNSET,
            placements=added,
        )
        commit_bytes(path, pretty_json(record))

    def _prepare(self, restart: bool) -> None:
        if restart:
            self._clear()
        elif (intake := read_ended_intake(self.layout)) and (
            strays := find_strays(self.layout, self.spec, intake.segments)
        ):
            raise RunDirectoryError(strays[0])
        before = None if restart else self._changed_spec()
        if before is not None or self.layout.manifest.exists():
            self._check_source()
            self.layout.manifest.unlink(missing_ok=True)
            # First: after a power cut, no manifest may be beside segments that it does not describe.
            sync_folder(self.layout.root)
        if before is not None:
            change(self.layout, before, self.spec)
        commit_bytes(self.layout.spec, pretty_json(self.spec))
        for one in self.spec.outputs:
            for folder in (self.layout.vector_folder(one.vector), self.layout.pass_file(one.vector).parent):
                make_folder(folder)
        make_folder(self.layout.chunks)

    def _changed_spec(self) -> RunSpec | None:
        """The stored spec, if the directory must be changed for the new one; SpecMismatch if it cannot be."""
        before = read_owner(self.layout)
        if before is None:
            return None
        if before.preprocessing not in POLICIES:
            raise SpecMismatch(
                f"--out {self.layout.root}: its policy {before.preprocessing!r} for reading records is not known to this "
                "build; use the version that began the run, or --restart to start over"
            )
        # A run keeps the policy that it began with, even if there is a later one.
        ours = msgspec.structs.replace(self.spec, preprocessing=before.preprocessing)
        if self._is_moved(before):
            before = msgspec.structs.replace(before, source=ours.source)
        found = differences(ours, before)
        if not found or may_change(self.layout, before, ours):
            self.spec = ours
            return before if found else None
        if any(segments_in(self.layout.vector_folder(one.vector)) for one in before.outputs):
            link = "the source that it was made of by the path above (a link there will do), "
            kept = {one.vector for one in ours.passes}
            gone = " ".join(f"{FLAGS[one.kind]} {one.model}" for one in before.passes if one.vector not in kept)
            added = f"To add models, name those of the run too ({gone}). Or give " if gone else "Give "
            raise SpecMismatch(
                f"--out {self.layout.root} holds a run of another spec: {'; '.join(found)}. "
                f"{added}{link if ours.source != before.source else ''}another folder, or --restart to start over"
            )
        self._clear()  # nothing was computed for the other spec: nothing to protect
        return None

    def _is_moved(self, before: RunSpec) -> bool:
        """Whether the source is the run's own at another path, as after a move of the whole project."""
        if self.spec.source == before.source:
            return False
        try:
            return is_moved(self.spec.source, self._survey(), self.layout)
        except SourceError:  # the intake reports it
            return False

    def _look(self, restart: bool) -> None:
        """Check that the directory may be used, before any change to it."""
        if self.layout.shards_record.exists():
            where = self.layout.root
            raise RunDirectoryError(
                f"--out {where} is made of shards (it has shards.json), which run in it one by one: give --shard I/N, and then "
                f"`embedfleet merge {where}`. To start over, delete {where} yourself, or give another folder"
            )
        before = read_owner(self.layout)
        if before is None and is_foreign(self.layout):
            raise RunDirectoryError(
                f"--out {self.layout.root} is not empty and holds no run (it has no spec.json); give a new or empty folder"
            )
        if restart and self.spec.source != STDIN and holds_source(self.layout, self.spec.source):
            raise RunDirectoryError(
                f"{self.spec.source} is the source and lies among the files that --restart removes; move it elsewhere"
            )
        vectors = [one.vector for spec in (before, self.spec) if spec is not None for one in spec.outputs]
        if (odd := find_wrong_kind(self.layout, vectors)) is not None:
            raise wrong_kind_error(odd)

    def _clear(self) -> None:
        """Remove the files of a run, and nothing else. Its spec stays until the new one replaces it."""
        before = read_owner(self.layout)
        if before is not None:
            clear_run(self.layout, before)

    def _check_source(self) -> None:
        """Raise SourceError now for a source that the intake would refuse after the directory has been changed."""
        source = self.spec.source
        trail = read_trail(self.layout)
        if not (trail.segments or self.layout.source.exists()):
            return
        if is_gone(source) and trail.whole:  # a source that was read to its end is no longer needed
            return
        unchanged_files(source, self._survey(), self.layout)

    def _survey(self) -> Corpus:
        return survey(self.spec.source, self.layout.root, self.spec.text_field, self.spec.shard)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as handle:
        if handle.seek(0, os.SEEK_END) < 2 * len(_MAGIC):
            return False
        handle.seek(-len(_MAGIC), os.SEEK_END)
        return handle.read() == _MAGIC
