"""`export/export.json` and `rerank/report.json`: the files in `export/` that the run wrote, with sizes and digests."""

from __future__ import annotations

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout


class ExportedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of an export."""

    name: str
    format: str
    rows: int
    """Lines or rows in it; 0 for a file without rows."""
    bytes: int
    sha256: str
    made_of: str = ""
    """The digest of the run's vectors when the file was written. The writer of the record sets it."""


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `export.json`."""

    format: int = 1
    embedfleet: str = ""
    """The version that wrote it."""
    rows: int
    """Rows of the run."""
    files: tuple[ExportedFile, ...]
    """Sorted by name."""
    ours: tuple[str, ...] = ()
    """Names that exports of this run have written or are about to write. All other files are not the run's."""


class ReportedFile(msgspec.Struct, frozen=True):
    """A file of an evaluation."""

    name: str
    bytes: int
    sha256: str


class ReportRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of `report.json`."""

    files: tuple[ReportedFile, ...]
    ours: tuple[str, ...] = ()
    """Names that are about to be written."""


class NamedFile(msgspec.Struct, frozen=True):
    """A file of either record."""

    name: str


class FileNames(msgspec.Struct, frozen=True):
    """The names in either record, which decide which files are the run's own. Ignores the other fields, even if damaged."""

    files: tuple[NamedFile, ...]
    ours: tuple[str, ...] = ()


def read_export(layout: RunLayout) -> ExportRecord | None:
    """The record of the exports; None before the first. RunDirectoryError where the file is damaged."""
    return read_json(layout.export_record, ExportRecord)
