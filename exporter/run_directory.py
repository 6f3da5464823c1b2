"""Taking a run directory: one writer, one spec, and what is already committed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..protocol.durable import commit_bytes, make_folder, partial_of, sync_folder
from ..protocol.ensemble_spec import EnsembleSpec
from ..protocol.errors import RunDirectoryError, SpecMismatch
from ..protocol.layout import RunLayout, segments_in, set_aside
from ..protocol.source_check import read_trail, unchanged_files
from ..protocol.sources import is_gone, survey
from ..protocol.spec import Output, RunSpec, differences
from ..protocol.storage import Ranges
from ..protocol.work_messages import Fingerprint
from .directory_lock import take_lock
from .spec_change import change, may_change

_MAGIC = b"PAR1"
T = TypeVar("T")


class _Calibrated(msgspec.Struct, frozen=True):
    """What `pass.json` may have beside the fingerprint."""

    ranges: Ranges | None = None


class RunDirectory:
    """A run directory that this process holds. Raises RunDirectoryError or SpecMismatch where it cannot be held, SourceError
    where its source has changed; it is then as it was."""

    def __init__(self, root: Path, spec: RunSpec, *, restart: bool) -> None:
        self.layout, self.spec = RunLayout(root), spec
        try:
            if root.exists() and not root.is_dir():
                raise RunDirectoryError(f"--out {root} is a file; give a folder")
            if root.is_dir() and _is_foreign(self.layout):
                raise RunDirectoryError(f"--out {root} is not empty and holds no run; give a new or empty folder")
            make_folder(root)
            self._lock = take_lock(self.layout, f"--out {root}")
            try:
                self._prepare(restart)
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise RunDirectoryError(
                f"--out {root}: {error.strerror or error}; give a folder that can be written"
            ) from error

    def committed(self, number: int) -> list[int]:
        """The segments of a pass whose files all stand whole; partial and torn ones are removed, to be computed again."""
        standing = [self.standing(one.vector) for one in self.spec.passes[number].outputs]
        return sorted(set[int].intersection(*standing))

    def fingerprint(self, number: int) -> Fingerprint | None:
        """What the committed segments of a pass were computed with; None before the first."""
        return self._read(self.spec.passes[number].outputs[0].vector, Fingerprint)

    def ranges(self, vector: str) -> Ranges | None:
        """What the int8 of a vector spans; None before its first segment."""
        about = self._read(vector, _Calibrated)
        return about.ranges if about is not None else None

    def set_ranges(self, vector: str, ranges: Ranges) -> None:
        """Write them into `pass.json`, which stands; synced when this returns."""
        path = self.layout.pass_file(vector)
        record = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        commit_bytes(path, _pretty(record | {"ranges": ranges}))

    def begin_pass(self, number: int, fingerprint: Fingerprint, placement: str = "") -> None:
        """Write `pass.json` of each output, or check that the model is the one named there; SpecMismatch otherwise.

        `placements` there gathers, for audit, where the model was in each session that computed something.
        """
        one = self.spec.passes[number]
        self._compare(one.vector, self.fingerprint(number), fingerprint)
        for output in reversed(one.outputs):  # the first is the one that is looked for
            self._describe(output, fingerprint, {}, placement)

    def begin_ensemble(self, one: EnsembleSpec, fingerprint: Fingerprint) -> None:
        """As `begin_pass`, for an ensemble."""
        self._compare(one.vector, self._read(one.vector, Fingerprint), fingerprint)
        output = next(output for output in self.spec.outputs if output.vector == one.vector)
        self._describe(output, fingerprint, {"method": one.method, "members": one.members}, "")

    def release(self) -> None:
        """Let another run have the directory."""
        os.close(self._lock)

    def standing(self, vector: str) -> set[int]:
        """The segments of one vector that stand whole; partial and torn ones are removed."""
        folder = self.layout.vector_folder(vector)
        for stray in folder.glob(".*.tmp"):
            stray.unlink()
        whole: set[int] = set()
        for segment in segments_in(folder):
            path = self.layout.vector_segment(vector, segment)
            if _ends_whole(path):
                whole.add(segment)
            else:
                path.unlink()
        return whole

    def _read(self, vector: str, kind: type[T]) -> T | None:
        path = self.layout.pass_file(vector)
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except (OSError, msgspec.MsgspecError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}); --restart starts over") from error

    def _compare(self, vector: str, before: Fingerprint | None, fingerprint: Fingerprint) -> None:
        found = fingerprint.differences(before) if before is not None else []
        if found:
            raise SpecMismatch(
                f"--out {self.layout.root}: {vector} was computed with another model: {'; '.join(found)}. "
                "--restart starts over"
            )

    def _describe(self, output: Output, fingerprint: Fingerprint, more: dict[str, Any], placement: str) -> None:
        path = self.layout.pass_file(output.vector)
        if path.exists():
            record = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            if not placement or placement in record.get("placements", []):
                return
        else:
            record = {"vector": output.vector, "kind": output.kind, "form": output.form}
            record |= {"fingerprint": fingerprint.digest()} | msgspec.to_builtins(fingerprint)
            record |= {"output_dim": fingerprint.dim_of(output.form)} | more
            if output.form == "dense":
                record["storage"] = output.storage
        record["placements"] = [*record.get("placements", []), *([placement] if placement else [])]
        commit_bytes(path, _pretty(record))

    def _prepare(self, restart: bool) -> None:
        if restart:
            _clear(self.layout)
        before = self._changed_spec()
        if before is not None or self.layout.manifest.exists():
            self._check_source()
            self.layout.manifest.unlink(missing_ok=True)
            # First: a manifest must not come back beside segments that it does not describe.
            sync_folder(self.layout.root)
        if before is not None:
            change(self.layout, before, self.spec)
        commit_bytes(self.layout.spec, _pretty(self.spec))
        for one in self.spec.outputs:
            make_folder(self.layout.vector_folder(one.vector))
        make_folder(self.layout.chunks)

    def _changed_spec(self) -> RunSpec | None:
        """The spec that stands, where the directory has to be made ready for another one; SpecMismatch where it cannot be."""
        path = self.layout.spec
        if not path.exists():
            return None
        try:
            before = msgspec.json.decode(path.read_bytes(), type=RunSpec)
        except (OSError, msgspec.MsgspecError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}); --restart starts over") from error
        found = differences(self.spec, before)
        if not found:
            return None
        if may_change(self.layout, before, self.spec):
            return before
        if any(segments_in(folder) for folder in self.layout.vectors.glob("*/")):
            raise SpecMismatch(
                f"--out {self.layout.root} holds a run of another spec: {'; '.join(found)}. "
                "Give another folder, or --restart to start over"
            )
        _clear(self.layout)  # nothing was computed for the other spec: nothing to protect
        return None

    def _check_source(self) -> None:
        """SourceError for one that the intake would refuse, once this directory is taken and something of it is gone."""
        source = self.spec.source
        if not self.layout.source.exists():
            return
        if is_gone(source) and read_trail(self.layout).whole:  # to what was read to its end no harm comes
            return
        unchanged_files(source, survey(source, self.layout.root, self.spec.text_field), self.layout)


def _is_foreign(layout: RunLayout) -> bool:
    """Whether a folder holds something, and nothing that says a run began there: all that a power cut in its first moment
    may leave is the beginning of a spec."""
    if layout.spec.exists() or layout.lock.exists():
        return False
    return any(path != partial_of(layout.spec) for path in layout.root.iterdir())


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _clear(layout: RunLayout) -> None:
    """Remove what a run wrote, and nothing else.

    The manifest goes before what it describes, what was made of the chunks before them, and their spec last: at no moment,
    and after no power cut, could vectors of these chunks be taken for those of others.
    """
    derived = (layout.queries, set_aside(layout.queries), layout.rerank, layout.export)
    made = (layout.stats, layout.events, layout.quarantine, layout.published)
    for stage in ((layout.manifest,), (*made, layout.edge, *derived, layout.vectors), (layout.chunks,), (layout.spec,)):
        for path in stage:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        sync_folder(layout.root)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as handle:
        if handle.seek(0, os.SEEK_END) < 2 * len(_MAGIC):
            return False
        handle.seek(-len(_MAGIC), os.SEEK_END)
        return handle.read() == _MAGIC
