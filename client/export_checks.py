"""What stands in `export/` and `rerank/` against what is on record of it; and the record of an evaluation's files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
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


def record_of(files: Mapping[str, bytes]) -> bytes:
    """What is put on record of files, by name, in the form of `export.json`."""
    found = tuple(_File(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items())
    return msgspec.json.format(msgspec.json.encode(_Record(found)), indent=2) + b"\n"


def export_problems(layout: RunLayout) -> Iterator[str]:
    """Every file that `export.json` names, and the evaluation's two, by size and then by digest: all of it is read."""
    yield from _problems(layout, layout.export_record, "export again")
    yield from _problems(layout, layout.report_record, AGAIN)


def _problems(layout: RunLayout, record_file: Path, again: str) -> Iterator[str]:
    """`again` makes the files of the record anew."""
    said = record_file.name
    try:
        record = msgspec.json.decode(record_file.read_bytes(), type=_Record)
    except FileNotFoundError:
        if record_file == layout.export_record:
            yield from _unrecorded(layout)
        return
    except (OSError, ValueError) as error:
        yield f"{record_file}: not a record of files ({error}); delete it and {again}"
        return
    for one in record.files:
        path = layout.export / one.name
        remedy = AGAIN if path == layout.reranked else again
        try:
            size = path.stat().st_size
            if size != one.bytes:
                yield f"{path}: has {size} bytes, and {said} says {one.bytes}; {remedy}"
            elif _sha256(path) != one.sha256:
                yield f"{path}: its content is not what was exported (digest differs); {remedy}"
        except FileNotFoundError:
            yield f"{path}: is gone, and {said} names it; {remedy}"
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
