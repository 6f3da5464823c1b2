"""Compare the files in `export/` with `export.json` and the record of the report."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from ...protocol.errors import RunDirectoryError
from ...protocol.finished_run.published import run_digest
from ...protocol.run_directory.exported_files import paths_in_export
from ...protocol.run_directory.json_bytes import decode_json
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.own_files import is_segment
from ...protocol.run_directory.records.exports import ExportedFile, ExportRecord, ReportRecord
from ...protocol.spec.export_formats import FORMATS, file_names
from ..run_directory.files import AGAIN, read_spec


def export_problems(layout: RunLayout) -> Iterator[str]:
    """Problems of every file that `export.json` names, and of the report's two files. All files are read.

    A problem is a missing file, another size or digest, or an export of other vectors than the run has now.
    """
    yield from _problems(layout, layout.export_record, ExportRecord, "export again")
    yield from _problems(layout, layout.report_record, ReportRecord, AGAIN)


def _problems(
    layout: RunLayout, record_file: Path, kind: type[ExportRecord | ReportRecord], again: str
) -> Iterator[str]:
    """Problems of the files in one record. `again` is the remedy that makes them anew."""
    record_name = record_file.name
    try:
        record = decode_json(record_file.read_bytes(), kind)
    except FileNotFoundError:
        if record_file == layout.export_record:
            yield from _unrecorded(layout)
        return
    except (OSError, ValueError) as error:
        yield f"{record_file}: not a record of files ({error}); move it away, and the files that it was of, and {again}"
        return
    state = _state(layout) if record_file == layout.export_record else None
    for file in record.files:
        path = layout.export / file.name
        remedy = AGAIN if path == layout.reranked else again
        try:
            size = path.stat().st_size
            if isinstance(file, ExportedFile) and state not in (None, file.made_of) and path != layout.reranked:
                command = f"embedfleet export {shlex.quote(str(layout.root))}"
                yield f"{path}: of other vectors than the run has now; export it again: {command}"
            elif size != file.bytes:
                yield f"{path}: has {size} bytes, and {record_name} says {file.bytes}; {remedy}"
            elif _sha256(path) != file.sha256:
                yield f"{path}: its content is not what was exported (digest differs); {remedy}"
        except FileNotFoundError:
            yield f"{path}: is gone, and {record_name} names it; {remedy}"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror}); {remedy}"


def _state(layout: RunLayout) -> str | None:
    """The digest of the vectors; None if some are missing or damaged, which other checks report."""
    names = [one.vector for one in read_spec(layout).outputs]
    try:
        return run_digest(layout, names, segments_in(layout.chunks))
    except (RunDirectoryError, ValueError):
        return None


def _unrecorded(layout: RunLayout) -> Iterator[str]:
    """Report exported files if `export.json` is missing. Files with names that no export writes are the user's own."""
    names = {layout.reranked.name, *file_names(FORMATS, read_spec(layout))}
    stray = sorted(path for name, path in paths_in_export(layout).items() if name in names or _is_part(layout, path))
    if stray:
        remedy = AGAIN if stray == [layout.reranked] else "export again"
        which = ", ".join(path.name for path in stray)
        yield f"{layout.export_record}: is gone, and nobody knows whose {which} is; move it away and {remedy}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_part(layout: RunLayout, path: Path) -> bool:
    return path.parent == layout.table and is_segment(path.name)
