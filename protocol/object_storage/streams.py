"""Read a remote object as a file: from a place on to its end with read-ahead, or at any place with a small cache."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

Fetch = Callable[[int, int], bytes]
"""The bytes from one offset to another; an error if they cannot be had."""

FIRST_BYTES = 256 << 10
MOST_BYTES = 8 << 20
"""A stream begins with a small block, for a look at the head of a file; each next one is twice as large, up to this."""
PAGE_BYTES = 1 << 20
PAGES_AHEAD = 4
"""Pages that are read together: the pages of a column follow each other."""
MOST_PAGES = 64
"""Pages in memory, of all columns together."""


class _Block:
    """A range that a thread of its own is fetching."""

    def __init__(self, fetch: Fetch, start: int, end: int) -> None:
        self.end = end
        self._data = b""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(fetch, start), name="read-ahead", daemon=True)
        self._thread.start()

    def _run(self, fetch: Fetch, start: int) -> None:
        try:
            self._data = fetch(start, self.end)
        except BaseException as error:  # noqa: BLE001 - raised where the block is needed
            self._error = error

    def result(self) -> bytes:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._data


class RemoteStream(io.RawIOBase):
    """The bytes of an object from `start` to `end`. The next block is fetched while the current one is used."""

    def __init__(self, fetch: Fetch, end: int, start: int = 0) -> None:
        self._fetch, self._end, self._at = fetch, end, start
        self._size = FIRST_BYTES
        self._block, self._used = memoryview(b""), 0
        self._next = self._ahead(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill as much of the buffer as the current block has; 0 at the end."""
        if self._used == len(self._block):
            if self._next is None:
                return 0
            self._block, self._used = memoryview(self._next.result()), 0
            self._next = self._ahead(self._next.end)
        count = min(len(buffer), len(self._block) - self._used)
        buffer[:count] = self._block[self._used : self._used + count]
        self._used += count
        self._at += count
        return count

    def tell(self) -> int:
        """The offset in the object."""
        return self._at

    def _ahead(self, start: int) -> _Block | None:
        if start >= self._end:
            return None
        end = min(start + self._size, self._end)
        self._size = min(2 * self._size, MOST_BYTES)
        return _Block(self._fetch, start, end)


class RemoteFile(io.RawIOBase):
    """An object to read at any place. Pages that were read stay in memory, the latest MOST_PAGES of them."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        """Bytes of the object; pyarrow asks for it."""
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Exactly `size` bytes, or those up to the end."""
        with self._lock:
            end = self._size if size is None or size < 0 else min(self._at + size, self._size)
            if end <= self._at:
                return b""
            data = self._bytes(self._at, end)
            self._at = end
            return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _bytes(self, start: int, end: int) -> bytes:
        if end - start > PAGES_AHEAD * PAGE_BYTES:
            return self._fetch(start, end)
        parts: list[bytes] = []
        for page in range(start // PAGE_BYTES, (end - 1) // PAGE_BYTES + 1):
            begin = page * PAGE_BYTES
            parts.append(self._page(page)[max(0, start - begin) : end - begin])
        return b"".join(parts)

    def _page(self, page: int) -> bytes:
        if page not in self._pages:
            start = page * PAGE_BYTES
            data = self._fetch(start, min(start + PAGES_AHEAD * PAGE_BYTES, self._size))
            for number in range(0, len(data), PAGE_BYTES):
                self._pages[page + number // PAGE_BYTES] = data[number : number + PAGE_BYTES]
        self._pages.move_to_end(page)
        while len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        return self._pages[page]
