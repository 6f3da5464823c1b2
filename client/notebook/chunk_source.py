"""ChunkSource: a description of a corpus before it is read: files, bytes, and records if they are cheap to count."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...protocol.errors import SourceError, UsageError
from ...protocol.object_storage.address import is_address, parse_address
from ...protocol.run_directory.layout import RunLayout
from ...protocol.source.check import read_stamps, was_read
from ...protocol.source.corpus import STDIN, is_gone, survey
from ...protocol.source.source_file import SourceFile
from ...protocol.source.unpacked import parquet_source
from ..arguments import expand_path

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """A corpus whose files can be read. The records are checked only by the run."""

    path: Path | str
    """Of a file or folder here; the address of one elsewhere."""
    files: int
    bytes: int
    records: int | None
    """Lines of JSONL and rows of Parquet; None if a file must be parsed to count them (compressed, or a JSON array)."""
    not_read: str = ""
    """Files in the folder that are not read: a count for each kind, with the first names."""


def look_at_source(
    source: str | PathLike[str], out: Path, text_field: str | None = None, *, fresh: bool = False
) -> ChunkSource:
    """Describe the corpus in a file or folder, without the files under `out`. SourceError if nothing can be read.

    A missing source is described by the run in `out`, if that run has read it to its end and `fresh` is False.
    """
    if source == STDIN:
        raise UsageError("standard input is for the command line: give a file or a folder")
    path = _place(source)
    if not fresh and was_read(out, str(path)) and is_gone(str(path)):
        stamps = read_stamps(RunLayout(out)) or []
        return ChunkSource(path, len(stamps), sum(one.size for one in stamps), None)
    corpus = survey(str(path), out, text_field)
    files = corpus.files
    counts = [_records(file) for file in files]
    known = [count for count in counts if count is not None]
    records = sum(known) if len(known) == len(counts) else None
    return ChunkSource(path, len(files), sum(file.size for file in files), records, corpus.left_out.line())


def _place(source: str | PathLike[str]) -> Path | str:
    if is_address(source):
        return str(parse_address(source, "source", SourceError))
    return expand_path(source, "source", SourceError).absolute()


def _records(file: SourceFile) -> int | None:
    if file.compression is not None or (file.path is None and file.format != "parquet"):
        return None
    try:
        match file.format:
            case "jsonl":
                return _lines(file.path) if file.path is not None else None
            case "parquet":
                with parquet_source(file) as (table, _):
                    return int(pq.read_metadata(table).num_rows)
            case _:
                return None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"{file.where}: cannot be read ({error}); restore it or leave it out") from error


def _lines(path: Path) -> int:
    """The number of lines; the last one may lack a line end."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            lines += block.count(b"\n")
            last = block[-1:]
    return lines + (last != b"\n")
