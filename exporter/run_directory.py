"""Taking a run directory: one writer, one spec, and what is already committed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from ..protocol.durable import commit_bytes, make_folder
from ..protocol.errors import RunDirectoryError, SpecMismatch
from ..protocol.layout import RunLayout, segments_in
from ..protocol.spec import RunSpec, differences
from ..protocol.work_messages import Fingerprint
from .directory_lock import take_lock

_MAGIC = b"PAR1"


class RunDirectory:
    """A run directory that this process holds. Raises RunDirectoryError or SpecMismatch where it cannot be held."""

    def __init__(self, root: Path, spec: RunSpec, *, restart: bool) -> None:
        self.layout, self.spec = RunLayout(root), spec
        try:
            if root.exists() and not root.is_dir():
                raise RunDirectoryError(f"--out {root} is a file; give a folder")
            if root.is_dir() and any(root.iterdir()) and not (self.layout.spec.exists() or self.layout.lock.exists()):
                raise RunDirectoryError(f"--out {root} is not empty and holds no run; give a new or empty folder")
            make_folder(root)
            self._lock = take_lock(self.layout, f"--out {root}")
            if restart:
                _clear(self.layout)
            self._take_spec()
            self.layout.manifest.unlink(missing_ok=True)
            for one in spec.outputs:
                make_folder(self.layout.vector_folder(one.vector))
            make_folder(self.layout.chunks)
        except OSError as error:
            raise RunDirectoryError(
                f"--out {root}: {error.strerror or error}; give a folder that can be written"
            ) from error

    def committed(self, number: int) -> list[int]:
        """The segments of a pass whose files all stand whole; partial and torn ones are removed, to be computed again."""
        standing = [self._standing(one.vector) for one in self.spec.passes[number].outputs]
        return sorted(set[int].intersection(*standing))

    def fingerprint(self, number: int) -> Fingerprint | None:
        """What the committed segments of a pass were computed with; None before the first."""
        path = self.layout.pass_file(self.spec.passes[number].outputs[0].vector)
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Fingerprint)
        except (OSError, msgspec.MsgspecError) as error:
            raise RunDirectoryError(f"{path} cannot be read ({error}); --restart starts over") from error

    def begin_pass(self, number: int, fingerprint: Fingerprint) -> None:
        """Write `pass.json` of each output, or check that the model is the one named there; SpecMismatch otherwise."""
        one = self.spec.passes[number]
        before = self.fingerprint(number)
        if before is not None:
            found = fingerprint.differences(before)
            if found:
                raise SpecMismatch(
                    f"--out {self.layout.root}: {one.vector} was computed with another model: {'; '.join(found)}. "
                    "--restart starts over"
                )
        for output in reversed(one.outputs):  # the first is the one that is looked for
            path = self.layout.pass_file(output.vector)
            record = {
                "vector": output.vector,
                "kind": one.kind,
                "form": output.form,
                "fingerprint": fingerprint.digest(),
            }
            record |= msgspec.to_builtins(fingerprint) | {"output_dim": fingerprint.dim_of(output.form)}
            if not path.exists():
                commit_bytes(path, _pretty(record))

    def release(self) -> None:
        """Let another run have the directory."""
        os.close(self._lock)

    def _standing(self, vector: str) -> set[int]:
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

    def _take_spec(self) -> None:
        path = self.layout.spec
        if path.exists():
            try:
                before = msgspec.json.decode(path.read_bytes(), type=RunSpec)
            except (OSError, msgspec.MsgspecError) as error:
                raise RunDirectoryError(f"{path} cannot be read ({error}); --restart starts over") from error
            found = differences(self.spec, before)
            if found and not any(segments_in(folder) for folder in self.layout.vectors.glob("*/")):
                _clear(
                    self.layout
                )  # nothing was computed for the other spec (a mistyped model, say): nothing to protect
            elif found:
                raise SpecMismatch(
                    f"--out {self.layout.root} holds a run of another spec: {'; '.join(found)}. "
                    "Give another folder, or --restart to start over"
                )
        commit_bytes(path, _pretty(self.spec))


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _clear(layout: RunLayout) -> None:
    """Remove what a run wrote, and nothing else."""
    for folder in (layout.chunks, layout.vectors, layout.edge, layout.queries, layout.rerank, layout.export):
        if folder.exists():
            shutil.rmtree(folder)
    for path in (layout.spec, layout.manifest, layout.stats, layout.events, layout.quarantine, layout.published):
        path.unlink(missing_ok=True)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as handle:
        if handle.seek(0, os.SEEK_END) < 2 * len(_MAGIC):
            return False
        handle.seek(-len(_MAGIC), os.SEEK_END)
        return handle.read() == _MAGIC
