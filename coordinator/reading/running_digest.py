"""A digest of a file up to the end of any record that may still become the end of a segment."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.run_directory.segment_info import Passed
from ...protocol.source.unpacked import FileDigest, new_digest


@dataclass(frozen=True, slots=True)
class _Block:
    """A block in which records end: the first and last of them, and the digest and byte count before the block."""

    first: int
    last: int
    state: Any
    before: int
    data: bytes
    ends: Sequence[int] | None
    """Offsets in the block at which the records end; None: each ends with the next newline."""

    def end_of(self, number: int) -> int:
        if not self.data:
            return 0
        if self.ends is not None:
            return self.ends[number - self.first]
        at = 0
        for _ in range(number - self.first + 1):
            at = self.data.index(b"\n", at) + 1
        return at


class RunningDigest:
    """Grows with each block read. Record numbers ascend; `hold` frees the blocks of earlier records."""

    def __init__(self) -> None:
        self.reached = 0
        """The last record that has ended."""
        self.whole = False
        """Whether the file was read to its end, without damage."""
        self._state, self._n_bytes = new_digest(), 0
        self._blocks = deque[_Block]()
        self._raw: FileDigest | None = None
        self._kept: tuple[int, Passed] | None = None

    def add(self, data: bytes, first: int = 0, count: int = 0, ends: Sequence[int] | None = None) -> None:
        """Take the next block, in which `count` records end; the first of them has the number `first`."""
        if count:
            self.reached = first + count - 1
            self._blocks.append(_Block(first, self.reached, self._state.copy(), self._n_bytes, data, ends))
        self._state.update(data)
        self._n_bytes += len(data)

    def end(self, number: int) -> None:
        """Note that record `number` ends with the bytes taken last."""
        self.add(b"", number, 1)

    def follow(self, raw: FileDigest) -> None:
        """From now on take the bytes of `raw`, instead of those passed to `add`."""
        self._raw = raw

    def add_group(self, first: int, count: int, end: int) -> None:
        """Take `raw` up to byte `end`, the end of a group of records whose own ends are unknown."""
        assert self._raw is not None, "followed"
        self._raw.up_to(end)
        self._state, self._n_bytes = self._raw.state(), self._raw.n_bytes
        if count:
            self.add(b"", first, count)

    def hold(self, number: int) -> None:
        """Free the blocks of all records so far but `number`: `mark` is called for no other of them."""
        if self._kept is None or self._kept[0] != number:
            self._drop(number - 1)
            if len(self._blocks) < 2:  # too early to look for the record's end
                return
            self._kept = (number, self.mark(number))
        self._blocks.clear()

    def mark(self, number: int) -> Passed:
        """Bytes and digest through the end of record `number`, or through the last byte if it has not ended."""
        if self._kept is not None and self._kept[0] == number:
            return self._kept[1]
        self._drop(number - 1)
        if not self._blocks:
            return Passed(n_bytes=self._n_bytes, digest=self._state.hexdigest())
        block = self._blocks[0]
        end, state = block.end_of(number), block.state.copy()
        state.update(memoryview(block.data)[:end])
        return Passed(n_bytes=block.before + end, digest=state.hexdigest())

    def _drop(self, number: int) -> None:
        while self._blocks and self._blocks[0].last <= number:
            self._blocks.popleft()

    def finish(self) -> None:
        """Note that the file was read to its end."""
        if self._raw is not None:
            self._raw.up_to()
            self._state, self._n_bytes = self._raw.state(), self._raw.n_bytes
        self.whole = True

    @property
    def total(self) -> str:
        """The digest of the whole file; empty if it was not read to its end."""
        return self._state.hexdigest() if self.whole else ""
