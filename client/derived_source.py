"""The source of a derived run (queries, pairs) that stands elsewhere now, or was written again with the same content.

The spec of a run has the absolute path of its source, and `chunks/source.json` its size and time. A run directory that was
moved or copied, or a file of queries that was fetched again, would be another source by these, and all of it computed anew.
What counts is the content: the derived run is then told where its source stands now.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from ..protocol.durable import commit_bytes
from ..protocol.errors import RunDirectoryError
from ..protocol.json_bytes import decode_json
from ..protocol.layout import RunLayout
from ..protocol.run_json import read_spec
from ..protocol.source_check import FileStamp
from ..protocol.spec import RunSpec, differences
from .run_files import is_being_written, writing


def adopt_source(spec: RunSpec, layout: RunLayout) -> None:
    """Note where the source stands now in the run of a folder, where that is the run of `spec` and of this content."""
    try:
        stood = read_spec(layout)
        (before,) = decode_json(layout.source.read_bytes(), list[FileStamp])
        source = Path(spec.source)
        found = source.stat()
    except (OSError, ValueError, msgspec.MsgspecError, RunDirectoryError):
        return  # none, or damaged: the run itself says so
    now = FileStamp(source.name, found.st_size, found.st_mtime_ns)
    moved = stood.source != spec.source
    if (not moved and before == now) or differences(msgspec.structs.replace(spec, source=stood.source), stood):
        return
    if (before.path, before.size) != (now.path, now.size) or is_being_written(layout):
        return
    if before != now and _noted(layout) != digest_of(source):
        return
    with writing(layout.root):
        commit_bytes(layout.source, msgspec.json.encode([now]))
        moved_spec = msgspec.structs.replace(stood, source=spec.source)
        commit_bytes(layout.spec, msgspec.json.format(msgspec.json.encode(moved_spec), indent=2) + b"\n")


def note_digest(layout: RunLayout, digest: str) -> None:
    """Keep the digest of the source beside what was read of it."""
    if digest and _noted(layout) != digest:
        with writing(layout.source_digest):
            commit_bytes(layout.source_digest, f"{digest}\n".encode())


def digest_of(source: Path) -> str:
    """Hexadecimal SHA-256 of a file; empty where it cannot be read, which whoever reads it says."""
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _noted(layout: RunLayout) -> str | None:
    try:
        return layout.source_digest.read_text().strip()
    except (OSError, ValueError):
        return None
