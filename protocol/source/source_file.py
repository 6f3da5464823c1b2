"""One file of a source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["jsonl", "json", "parquet"]
Compression = Literal["gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read: at a `path` here, at a `url` elsewhere, or standard input, which has neither. `name` is its name in
    reports and generated ids."""

    path: Path | None
    name: str
    format: Format
    compression: Compression | None = None
    collection: str | None = None
    """The folder name of a `*_chunks.json` file, which its records get as metadata."""
    size: int = 0
    mtime_ns: int = 0
    since_0_1: bool = False
    """Whether 0.1.0 skipped such a file in a folder."""
    start: int = 0
    end: int | None = None
    """Of a file that is divided among shards, the bytes in which the records begin that are read; None: to the end."""
    url: str | None = None
    e_tag: str = ""
    """What the store of a remote file says of its content: another one is another content. Empty if it says nothing."""
    own_lines: bool = False
    """Whether the lines of a part are numbered from the first one that begins at `start` or after it. Otherwise they have
    their numbers in the whole file, for which all that is before the part must be read."""

    @property
    def where(self) -> str:
        """The path or the address, for messages."""
        return str(self.path or self.url or self.name)

    @property
    def from_byte(self) -> int:
        """The byte from which its records are numbered: 0, unless it has its `own_lines`."""
        return self.start if self.own_lines else 0

    @property
    def is_part(self) -> bool:
        """Whether only a part of the file is read."""
        return self.start > 0 or self.end is not None
