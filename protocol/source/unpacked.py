"""Read the unpacked bytes of a source file, and compute digests of them."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import xxhash

from .line_range import line_range
from .row_groups import row_groups
from .source_file import SourceFile

BLOCK_BYTES = 1 << 20
# A failing read loses what it has unpacked, so each read is short.
_ZSTD_BLOCK = 16 << 10

Read = Callable[[int], bytes]


@contextmanager
def opened(file: SourceFile) -> Generator[tuple[Read, int]]:
    """A read function for the unpacked bytes, and the largest size to pass to it. Parquet is read as it is.

    Of a part of a file, the bytes of its lines or row groups.
    """
    if file.path is None:
        # read1 returns what is there, without waiting for more of a slow pipe.
        yield cast("io.BufferedReader", sys.stdin.buffer).read1, BLOCK_BYTES
    elif file.compression == "gzip":
        with gzip.open(file.path) as packed:
            # Unlike `read`, `read1` returns everything before damaged bytes before it fails.
            yield packed.read1, BLOCK_BYTES
    elif file.compression == "zstd":
        import pyarrow as pa

        with pa.input_stream(str(file.path), compression="zstd") as stream:
            yield stream.read, _ZSTD_BLOCK
    else:
        with file.path.open("rb", buffering=0) as plain:
            yield (_read_part(file, file.path, plain) if file.is_part else plain.read), BLOCK_BYTES


def _read_part(file: SourceFile, path: Path, handle: IO[bytes]) -> Read:
    """A read function for the bytes of a part of a file."""
    if file.format == "parquet":
        groups = row_groups(path, file.start, file.end)
        start, end = (groups[0].start, groups[-1].end) if groups else (0, 0)
    else:
        start, end = line_range(handle, file.start, file.end)
    at = handle.seek(start)

    def read(most: int) -> bytes:
        nonlocal at
        block = handle.read(most if end is None else max(0, min(most, end - at)))
        at += len(block)
        return block

    return read


def new_digest() -> Any:
    """A new XXH3 digest of 128 bits: fast, since it reads every byte of a source. It detects changes, not attacks."""
    return xxhash.xxh3_128()


def digest_of(file: SourceFile, n_bytes: int | None = None) -> str | None:
    """The digest of the first `n_bytes` unpacked bytes, or of all. None if there are fewer, or they cannot be read."""
    import zlib

    state, left = new_digest(), n_bytes
    try:
        with opened(file) as (read, most):
            while left is None or left > 0:
                block = read(most if left is None else min(most, left))
                if not block:
                    break
                state.update(block)
                left = None if left is None else left - len(block)
    except (OSError, EOFError, zlib.error):
        return None
    return None if left else state.hexdigest()


def head_of(file: SourceFile, n_bytes: int) -> bytes:
    """The first `n_bytes` unpacked bytes, or all before the end or before damage."""
    import zlib

    head = b""
    try:
        with opened(file) as (read, _):
            while len(head) < n_bytes and (block := read(n_bytes - len(head))):
                head += block
    except (OSError, EOFError, zlib.error):
        pass
    return head


class FileDigest:
    """A digest of the first bytes of a file as it is on disk, or of those from `start` to `end`, extended on demand."""

    def __init__(self, handle: IO[bytes], start: int = 0, end: int | None = None) -> None:
        self._handle, self._state, self.n_bytes = handle, new_digest(), 0
        self._most = None if end is None else end - start
        handle.seek(start)

    def state(self) -> Any:
        """A copy of the digest as it is now."""
        return self._state.copy()

    def up_to(self, n_bytes: int | None = None) -> None:
        """Extend the digest to the first `n_bytes`, or to all of them. Do nothing if it covers more already."""
        n_bytes = self._most if n_bytes is None else n_bytes
        while n_bytes is None or self.n_bytes < n_bytes:
            block = self._handle.read(BLOCK_BYTES if n_bytes is None else min(BLOCK_BYTES, n_bytes - self.n_bytes))
            if not block:
                break
            self._state.update(block)
            self.n_bytes += len(block)
