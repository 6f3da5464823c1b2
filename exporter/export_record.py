"""`export/export.json`: which files of a run stand in `export/`."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..protocol.done_run import DoneRun
from ..protocol.durable import commit_bytes
from ..protocol.json_bytes import decode_json
from ..protocol.version import __version__
from .sinks.exported_file import ExportedFile


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record."""

    format: int = 1
    embedfleet: str = __version__
    rows: int
    """Of the run."""
    files: tuple[ExportedFile, ...]
    """By name."""


def drop_older(run: DoneRun, state: str) -> ExportRecord:
    """Delete the files that are of other vectors than those with the digest `state`, and commit the record without them.

    Together with newer ones they would be half a collection. Two stay: the collection's description, which the next one
    is made of, and the ranking, which no export can make again.
    """
    stay = (run.layout.collection.name, run.layout.reranked.name)
    older = {one.name for one in _earlier(run) if one.made_of != state and one.name not in stay}
    for path in run.layout.export.iterdir():
        if path.name in older:
            path.unlink()
    return add_files(run, (), state)


def add_files(run: DoneRun, written: Iterable[ExportedFile], state: str) -> ExportRecord:
    """Commit the record with these files, made of the vectors with the digest `state`, beside those that still stand."""
    files = {one.name: one for one in _earlier(run) if (run.layout.export / one.name).exists()}
    files |= {one.name: msgspec.structs.replace(one, made_of=state) for one in written}
    record = ExportRecord(rows=run.rows, files=tuple(files[name] for name in sorted(files)))
    commit_bytes(run.layout.export_record, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    return record


def _earlier(run: DoneRun) -> tuple[ExportedFile, ...]:
    """The record is derived: without one, all is written anew."""
    try:
        return decode_json(run.layout.export_record.read_bytes(), ExportRecord).files
    except (OSError, msgspec.MsgspecError):
        return ()
