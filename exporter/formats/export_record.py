"""`export/export.json`: the record of a run's files in `export/`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.done_run import DoneRun
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.exported_files import claim_names, paths_in_export, recorded_names
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.records.exports import ExportedFile, ExportRecord, read_export
from ...protocol.version import __version__


def claim(run: DoneRun, names: Iterable[str]) -> None:
    """Record these file names as ours before the files are written; RunDirectoryError if foreign files have them."""
    ours = claim_names(run.layout, run.layout.export_record, names)
    _commit(run, _earlier(run), ours)


def drop_older(run: DoneRun, state: str) -> ExportRecord:
    """Delete files made of other vectors than those with the digest `state`, and commit the record without them.

    Together with newer files they would be half a collection. Two files stay: the collection's description, from which the
    next one is made, and the ranking, which no export can make again.
    """
    stay = (run.layout.collection.name, run.layout.reranked.name)
    older = {one.name for one in _earlier(run) if one.made_of != state and one.name not in stay}
    for name, path in paths_in_export(run.layout).items():
        if name in older:
            path.unlink()
    with contextlib.suppress(OSError):  # there is none, or it has other files
        run.layout.table.rmdir()
    return add_files(run, (), state)


def add_files(run: DoneRun, written: Iterable[ExportedFile], state: str) -> ExportRecord:
    """Commit the record with these files, made of the vectors with the digest `state`, and with those still on disk."""
    files = {one.name: one for one in _earlier(run) if (run.layout.export / one.name).exists()}
    files |= {one.name: msgspec.structs.replace(one, made_of=state) for one in written}
    return _commit(run, files.values(), {*_names(run), *files})


def _names(run: DoneRun) -> set[str]:
    return recorded_names(run.layout.export_record) if run.layout.export_record.exists() else set()


def _commit(run: DoneRun, files: Iterable[ExportedFile], ours: Iterable[str]) -> ExportRecord:
    by_name = tuple(sorted(files, key=lambda one: one.name))
    record = ExportRecord(embedfleet=__version__, rows=run.rows, files=by_name, ours=tuple(sorted(ours)))
    commit_bytes(run.layout.export_record, pretty_json(record))
    return record


def _earlier(run: DoneRun) -> tuple[ExportedFile, ...]:
    """Files of the earlier record; none if it is missing or from a version that recorded less: all is written anew."""
    try:
        record = read_export(run.layout)
    except RunDirectoryError:
        return ()
    return record.files if record is not None else ()
