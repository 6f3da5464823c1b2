"""Lines of a byte stream, in blocks, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...protocol.source.json_head import BOM
from .running_digest import RunningDigest

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 32 << 20
"""A longer line is rejected unread. The worst line below the limit, all empty objects, takes about 1 GB while it is parsed."""
HEAD_BYTES = 800
"""Bytes kept of a line that is too long, for the report: 200 characters of UTF-8."""


@dataclass(frozen=True, slots=True)
class OversizedLine:
    """A line of `n_bytes` bytes, over the limit; only its `head` is kept."""

    head: bytes
    n_bytes: int


Line = tuple[int, bytes | OversizedLine]


class LineReader:
    """Iterates over blocks of (line number from 1, line without its newline).

    Blank lines, and lines up to `skip`, are counted but left out; a UTF-8 byte order mark at the start is dropped. `read(n)`
    returns at most n bytes, and b"" at the end. Its errors pass through; `number` then counts the whole lines. A block may
    be empty, so that the caller gets a turn even if no line is left in it.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        digest: RunningDigest | None = None,
        skip: int = 0,
        before: int = 0,
        block_bytes: int = BLOCK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
        inside: bool = False,
    ) -> None:
        """`before` is the number of lines of the file that come before these; `inside`: whether there are any."""
        self.number = before
        self._inside = inside
        self.skip = skip
        """Number of the last record to leave out; may be raised between two blocks."""
        self._read = read
        self._digest = digest
        # Not larger than the limit of a line: a line within one block then needs no check of its length.
        self._block_bytes = min(block_bytes, max_line_bytes)
        self._partial = PartialLine(max_line_bytes)

    def __iter__(self) -> Iterator[list[Line]]:
        block = self._first_block()
        while block:
            yield self._lines(block)
            block = self._read(self._block_bytes)
        if self._partial.n_bytes:
            self.number += 1
            if self._digest is not None:
                self._digest.end(self.number)
            yield self._given(self.number, self._partial.finish())

    def _first_block(self) -> bytes:
        block = self._read(self._block_bytes)
        while 0 < len(block) < len(BOM) and (more := self._read(len(BOM) - len(block))):
            block += more
        if self._inside or not block.startswith(BOM):  # a mark stands at the beginning of a file
            return block
        if self._digest is not None:
            self._digest.add(BOM)
        return block[len(BOM) :] or self._read(self._block_bytes)

    def _lines(self, block: bytes) -> list[Line]:
        ends = block.count(b"\n")
        if self._digest is not None:
            self._digest.add(block, self.number + 1, ends)
        if self.number + ends < self.skip:
            self.number += ends
            return []
        pieces = block.split(b"\n")
        tail = pieces.pop()
        given: list[Line] = []
        if pieces and self._partial.n_bytes:
            self._partial.add(pieces.pop(0))
            self.number += 1
            given = self._given(self.number, self._partial.finish())
        first = self.number + 1
        self.number += len(pieces)
        if first <= self.skip:
            pieces = pieces[self.skip - first + 1 :]
            first = self.skip + 1
        given += [(number, line) for number, line in enumerate(pieces, first) if line and not line.isspace()]
        self._partial.add(tail)
        return given

    def _given(self, number: int, line: bytes | OversizedLine) -> list[Line]:
        blank = isinstance(line, bytes) and (not line or line.isspace())
        return [] if blank or number <= self.skip else [(number, line)]


class PartialLine:
    """A line, or a value, that spans blocks."""

    def __init__(self, max_bytes: int) -> None:
        self.n_bytes = 0
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        if not part:
            return
        self.n_bytes += len(part)
        self._parts.append(part)
        if self.n_bytes > self._max_bytes:
            self._parts = [self._head()]

    def _head(self) -> bytes:
        """The first HEAD_BYTES, without joining all parts, which could need too much memory."""
        head = b""
        for part in self._parts:
            head += part[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES:
                break
        return head

    def finish(self) -> bytes | OversizedLine:
        line = b"".join(self._parts)
        whole = self.n_bytes <= self._max_bytes
        n_bytes, self.n_bytes, self._parts = self.n_bytes, 0, []
        return line if whole else OversizedLine(line[:HEAD_BYTES], n_bytes)
