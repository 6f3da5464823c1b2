"""Recognise the source of a derived run (queries, pairs) that was moved, or written again with the same content.

A run's spec has the absolute path of its source, and `intake/source.json` its size and time. These differ after a run
directory was moved or copied, or a query file was downloaded again, and everything would be computed again. So the content is
compared by its digest; if it is the same, the new path and time are written into the derived run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from ....protocol.errors import RunDirectoryError
from ....protocol.object_storage.address import is_address
from ....protocol.run_directory.atomic_files import commit_bytes, make_folder
from ....protocol.run_directory.json_bytes import decode_json, pretty_json
from ....protocol.run_directory.layout import RunLayout
from ....protocol.run_directory.records.intake import FileStamp
from ....protocol.run_directory.run_json import read_spec
from ....protocol.spec.differences import differences
from ....protocol.spec.run_spec import RunSpec
from ...run_directory.files import is_being_written, writing


def adopt_source(spec: RunSpec, layout: RunLayout) -> None:
    """Write the source's new path and time into the run in `layout`, if that run has this `spec` and the same content.

    A source in object storage is left to the run itself, which knows it by its address and e_tag.
    """
    if is_address(spec.source):
        return
    try:
        stood = read_spec(layout)
        (before,) = decode_json(layout.source.read_bytes(), list[FileStamp])
        source = Path(spec.source)
        found = source.stat()
    except (OSError, ValueError, msgspec.MsgspecError, RunDirectoryError):
        return  # missing or damaged: the run itself reports it
    now = FileStamp(source.name, found.st_size, found.st_mtime_ns)
    moved = stood.source != spec.source
    if (not moved and before == now) or differences(msgspec.structs.replace(spec, source=stood.source), stood):
        return
    if (before.path, before.size) != (now.path, now.size) or is_being_written(layout):
        return
    if before != now and _noted(layout) != digest_of(spec.source):
        return
    with writing(layout.root):
        commit_bytes(layout.source, msgspec.json.encode([now]))
        moved_spec = msgspec.structs.replace(stood, source=spec.source)
        commit_bytes(layout.spec, pretty_json(moved_spec))


def note_digest(layout: RunLayout, digest: str) -> None:
    """Store the digest of the source in the run directory."""
    if digest and _noted(layout) != digest:
        with writing(layout.source_digest):
            make_folder(layout.source_digest.parent)
            commit_bytes(layout.source_digest, f"{digest}\n".encode())


def digest_of(source: str) -> str:
    """Hexadecimal SHA-256 of a local file; empty if it is elsewhere, or cannot be read, which its reader reports."""
    if is_address(source):
        return ""
    try:
        with Path(source).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _noted(layout: RunLayout) -> str | None:
    try:
        return layout.source_digest.read_text().strip()
    except (OSError, ValueError):
        return None
