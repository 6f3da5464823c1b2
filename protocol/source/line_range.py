"""The lines of a file that begin in a range of its bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

BLOCK_BYTES = 1 << 20


def line_start(handle: IO[bytes], offset: int) -> int:
    """The offset of the first line that begins at `offset` or after it; the file's size if there is none."""
    if offset == 0:
        return 0
    at = handle.seek(offset - 1)
    while block := handle.read(BLOCK_BYTES):
        if (end := block.find(b"\n")) >= 0:
            return at + end + 1
        at += len(block)
    return at


def line_range(handle: IO[bytes], start: int, end: int | None) -> tuple[int, int | None]:
    """The offsets of the lines that begin in these bytes: of the first one, and of the first one after them. None: the end."""
    return line_start(handle, start), None if end is None else line_start(handle, end)


def count_lines(stream: io.RawIOBase, end: int) -> Iterator[int]:
    """Count the line ends in the first `end` bytes. Yields the count so far after each block, for progress; the last is all."""
    lines = at = 0
    while at < end and (block := stream.read(min(BLOCK_BYTES, end - at))):
        lines += block.count(b"\n")
        at += len(block)
        yield lines
