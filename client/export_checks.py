"""What stands in `export/` and `rerank/` against what is on record of it; and the record of an evaluation's files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

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
        return
    except (OSError, msgspec.MsgspecError) as error:
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


def ranking_problems(layout: RunLayout) -> Iterator[str]:
    """The tables of candidates and of their order, where what is written after them says that there are some."""
    expected: list[Path] = []
    if layout.candidates_record.exists():
        expected += [layout.candidates, layout.pairs]
    if layout.reranked.exists():
        expected.append(layout.ranking)
    for path in expected:
        if not path.exists():
            yield f"{path}: is gone; {AGAIN}"
        elif path.suffix == ".parquet":
            try:
                pq.read_metadata(path)
            except (OSError, ValueError, pa.ArrowException) as error:
                yield f"{path}: torn or unreadable ({error}); delete it and {AGAIN}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
