"""Exporting a done run: the directory is held, each format is written whole, and `export/export.json` says what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..protocol.collection import Quantization
from ..protocol.done_run import DoneRun, open_done_run
from ..protocol.durable import commit_bytes, make_folder
from ..protocol.errors import UsageError
from ..protocol.vector_rows import Form
from ..protocol.version import __version__
from .command_line import held
from .sinks.collection import write_collection
from .sinks.exported_file import ExportedFile
from .sinks.jsonl import write_jsonl
from .sinks.metadata import write_metadata
from .sinks.multivector_jsonl import write_multivector_jsonl
from .sinks.npy import write_npy
from .sinks.sparse_jsonl import write_sparse_jsonl
from .sinks.stats import write_stats
from .sinks.upload_script import write_upload_script


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`export/export.json`."""

    format: int = 1
    embedfleet: str = __version__
    rows: int
    """Of the run."""
    files: tuple[ExportedFile, ...]
    """By name."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format by its writer, and the vectors without which it has nothing to hold."""

    write: Callable[[DoneRun, Path], Iterator[ExportedFile]]
    needs: Form | None = None


FORMATS: dict[str, Format] = {
    "jsonl": Format(write_jsonl),
    "npy": Format(write_npy, "dense"),
    "sparse-jsonl": Format(write_sparse_jsonl, "sparse"),
    "multivector-jsonl": Format(write_multivector_jsonl, "multivector"),
    "metadata": Format(write_metadata),
    "upload-script": Format(write_upload_script),
}


def export_run(
    root: Path, formats: Sequence[str], quantization: Quantization, say: Callable[[ExportedFile], None]
) -> ExportRecord:
    """Write `formats` (none: all that apply) of the run in `root`; `say` is told of each file that stands.

    Exporting again replaces the files of these formats and keeps the others. UsageError for a format that is not known or
    does not apply, RunDirectoryError where the run is not done or another process writes there.
    """
    open_done_run(root)  # before anything, the lock file included, is written there
    return held(root, lambda: _Export(open_done_run(root), quantization, say).write(formats), "export again")


class _Export:
    """One export under the lock."""

    def __init__(self, run: DoneRun, quantization: Quantization, say: Callable[[ExportedFile], None]) -> None:
        self._run, self._say = run, say
        self._quantization: Quantization = quantization
        self._files: dict[str, ExportedFile] = {}

    def write(self, formats: Sequence[str]) -> ExportRecord:
        names = self._chosen(formats)
        folder = self._run.layout.export
        make_folder(folder)
        self._files = {one.name: one for one in _earlier(self._run) if (folder / one.name).exists()}
        record = self._take(write_collection(self._run, folder, self._quantization))
        record = self._take(write_stats(self._run, folder))
        for name in names:
            record = self._take(FORMATS[name].write(self._run, folder))
        return record

    def _chosen(self, formats: Sequence[str]) -> list[str]:
        forms = {shape.form for shape in self._run.shapes().values()}
        for name in formats:
            if name not in FORMATS:
                raise UsageError(f"--format {name}: not known; give one or more of {', '.join(FORMATS)}")
            needs = FORMATS[name].needs
            if needs is not None and needs not in forms:
                raise UsageError(f"--format {name}: this run has no {needs} vectors")
        chosen = set(formats) or {name for name, one in FORMATS.items() if one.needs is None or one.needs in forms}
        if "upload-script" in chosen:
            chosen.add("jsonl")  # what the script loads
        return [name for name in FORMATS if name in chosen]

    def _take(self, written: Iterator[ExportedFile]) -> ExportRecord:
        """Note each file as soon as it stands."""
        for one in written:
            self._files[one.name] = one
            self._say(one)
        files = tuple(self._files[name] for name in sorted(self._files))
        record = ExportRecord(rows=self._run.rows, files=files)
        commit_bytes(self._run.layout.export_record, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        return record


def _earlier(run: DoneRun) -> tuple[ExportedFile, ...]:
    """What earlier exports of the same run wrote. The record is derived: without one, all is written anew."""
    try:
        return msgspec.json.decode(run.layout.export_record.read_bytes(), type=ExportRecord).files
    except (OSError, msgspec.MsgspecError):
        return ()
