"""Read byte ranges of one object. Each answer is compared with the requested range, and a read that was cut short continues
where it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ..errors import SourceError
from .address import Address
from .failures import describe, is_final
from .stores import Store, open_store

ATTEMPTS = 8
"""Attempts without a single new byte before a read is given up. The library also repeats refused requests."""
PAUSE_SECONDS = 0.2
MOST_PAUSE_SECONDS = 10.0
CHUNK_BYTES = 1 << 20


class ObjectChanged(Exception):
    """The object is not the one that the read began with."""


class Ranges(Protocol):
    """Reads parts of one object."""

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to `end`, in pieces. ObjectChanged if it is another object by now."""
        ...


class StoreRanges:
    """Ranges of an object of a store. Each request has the condition that the object is the one with `e_tag`."""

    def __init__(self, address: Address, size: int, e_tag: str) -> None:
        self._store: Store = open_store(address)
        self._key, self._size, self._e_tag = address.key, size, e_tag

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        import obstore
        from obstore.exceptions import PreconditionError

        options = {"range": (start, end)} | ({"if_match": self._e_tag} if self._e_tag else {})
        try:
            result = obstore.get(self._store, self._key, options=options)  # pyright: ignore[reportArgumentType] - a TypedDict
        except PreconditionError as error:
            raise ObjectChanged from error
        about, (first, last) = result.meta, result.range
        # A server that ignores conditions or ranges answers with another object, or with all of it.
        if int(about["size"]) != self._size or (self._e_tag and about["e_tag"] and about["e_tag"] != self._e_tag):
            raise ObjectChanged
        if (first, last) != (start, end):
            raise OSError(f"bytes {first} to {last} came for {start} to {end}")
        for piece in result.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(piece)


def read_range(
    ranges: Ranges, address: Address, start: int, end: int, sleep: Callable[[float], None] = time.sleep
) -> bytes:
    """Exactly the bytes from `start` to `end`. SourceError if the object has changed, or cannot be read after all attempts."""
    have, failures = bytearray(), 0
    while len(have) < end - start:
        begin = len(have)
        try:
            for piece in ranges.pieces(start + begin, end):
                have += piece
            if len(have) > end - start:  # a repeated request may have been answered with the whole object
                del have[begin:]
                raise OSError("more bytes came than were asked for")
            if len(have) < end - start:
                raise OSError(f"{end - start - len(have):,} bytes are missing")
        except ObjectChanged as error:
            raise SourceError(f"{address}: changed while it was read; run again once nobody writes it") from error
        except SourceError:
            raise
        except Exception as error:
            del have[end - start :]
            failures = 1 if len(have) > begin else failures + 1
            if failures >= ATTEMPTS or is_final(error):
                raise SourceError(
                    f"{address} cannot be read on: {describe(error, address)}; the same command goes on there"
                ) from error
            sleep(min(PAUSE_SECONDS * 2**failures, MOST_PAUSE_SECONDS))
    return bytes(have)
