"""What stands in `export/` against what is on record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..protocol.layout import RunLayout
from .run_files import AGAIN


class _File(msgspec.Struct, frozen=True):
    """What `export.json` says of a file."""

    name: str
    bytes: int
    sha256: str


class _Record(msgspec.Struct, frozen=True):
    files: tuple[_File, ...]


def export_problems(layout: RunLayout) -> Iterator[str]:
    """Every file that `export.json` names, by its size and then by its digest: all of it is read."""
    try:
        record = msgspec.json.decode(layout.export_record.read_bytes(), type=_Record)
    except FileNotFoundError:
        yield from _unrecorded(layout)
        return
    except (OSError, ValueError) as error:
        yield f"{layout.export_record}: not a record of files ({error}); delete it and export again"
        return
    for one in record.files:
        path = layout.export / one.name
        remedy = AGAIN if path == layout.reranked else "export again"
        try:
            size = path.stat().st_size
            if size != one.bytes:
                yield f"{path}: has {size} bytes, and export.json says {one.bytes}; {remedy}"
            elif _sha256(path) != one.sha256:
                yield f"{path}: its content is not what was exported (digest differs); {remedy}"
        except FileNotFoundError:
            yield f"{path}: is gone, and export.json names it; {remedy}"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror}); {remedy}"


def _unrecorded(layout: RunLayout) -> Iterator[str]:
    """The record itself is gone; the report and the evaluation are on no record."""
    known = {layout.report, layout.evaluation}
    stray = sorted(path for path in layout.export.glob("[!.]*") if path not in known)
    if stray:
        remedy = AGAIN if stray == [layout.reranked] else "export again"
        yield f"{layout.export_record}: is gone, and {stray[0].name} stands there; {remedy}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
