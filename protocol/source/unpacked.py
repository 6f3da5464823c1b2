"""The bytes of a source file, unpacked; and digests of them, by which a source is recognised."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO, Any, cast

import xxhash

from .corpus import SourceFile

BLOCK_BYTES = 1 << 20
# A read that fails loses what it had unpacked, so each read is short.
_ZSTD_BLOCK = 16 << 10

Read = Callable[[int], bytes]


@contextmanager
def opened(file: SourceFile) -> Generator[tuple[Read, int]]:
    """A read function over the unpacked bytes, and the most bytes to ask it for. Parquet is read as it is."""
    if file.path is None:
        # Whatever there is, so that a slow pipe is read as it comes.
        yield cast("io.BufferedReader", sys.stdin.buffer).read1, BLOCK_BYTES
    elif file.compression == "gzip":
        with gzip.open(file.path) as packed:
            # Unlike `read`, it gives everything before the damage, and only then fails.
            yield packed.read1, BLOCK_BYTES
    elif file.compression == "zstd":
        import pyarrow as pa

        with pa.input_stream(str(file.path), compression="zstd") as stream:
            yield stream.read, _ZSTD_BLOCK
    else:
        with file.path.open("rb", buffering=0) as plain:
            yield plain.read, BLOCK_BYTES


def new_digest() -> Any:
    """XXH3 of 128 bits, since every byte of a source goes through it. It has to detect a changed source, not to withstand an
    attacker."""
    return xxhash.xxh3_128()


def digest_of(file: SourceFile, n_bytes: int | None = None) -> str | None:
    """The digest of the first `n_bytes` unpacked bytes, or of all; None where there are fewer, or they cannot be read."""
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
    """The first bytes, or as many as there are before the end or the damage."""
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
    """The digest of a file's first bytes, as they are on the disk. It grows on demand."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle, self._state, self.n_bytes = handle, new_digest(), 0

    def state(self) -> Any:
        """A copy of the digest as it is now."""
        return self._state.copy()

    def up_to(self, n_bytes: int | None = None) -> None:
        """Grow to the first `n_bytes`, unless it has more already; None: to the whole file."""
        while n_bytes is None or self.n_bytes < n_bytes:
            block = self._handle.read(BLOCK_BYTES if n_bytes is None else min(BLOCK_BYTES, n_bytes - self.n_bytes))
            if not block:
                break
            self._state.update(block)
            self.n_bytes += len(block)
