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
from .remote_files import fetch, open_anywhere, open_stream
from .row_groups import DamagedFooter, row_groups, span_of
from .source_file import SourceFile

BLOCK_BYTES = 1 << 20
# A failing read loses what it has unpacked, so each read is short.
_ZSTD_BLOCK = 16 << 10

Read = Callable[[int], bytes]


@contextmanager
def raw_bytes(file: SourceFile, offset: int = 0, end: int | None = None) -> Generator[io.RawIOBase]:
    """The bytes of a file as it lies there, here or elsewhere, from `offset` on; each read returns what is at hand. Of a file
    elsewhere, nothing is fetched from `end` on."""
    if file.url is not None:
        with open_stream(file, offset, end) as remote:
            yield remote
        return
    assert file.path is not None, "not standard input"
    with file.path.open("rb", buffering=0) as local:
        if offset:
            local.seek(offset)
        yield local


@contextmanager
def opened(file: SourceFile) -> Generator[tuple[Read, int]]:
    """A read function for the unpacked bytes, and the largest size to pass to it. Parquet is read as it is.

    Of a part of a file, the bytes of its lines or row groups.
    """
    if file.path is None and file.url is None:
        # read1 returns what is there, without waiting for more of a slow pipe.
        yield cast("io.BufferedReader", sys.stdin.buffer).read1, BLOCK_BYTES
    elif file.compression == "gzip":
        with _packed(file) as source, gzip.open(source) as packed:
            # Unlike `read`, `read1` returns everything before damaged bytes before it fails.
            yield packed.read1, BLOCK_BYTES
    elif file.compression == "zstd":
        import pyarrow as pa

        with _packed(file) as source:
            with pa.input_stream(str(source) if isinstance(source, Path) else source, compression="zstd") as stream:
                yield stream.read, _ZSTD_BLOCK
    else:
        start, end = byte_range(file)
        with raw_bytes(file, start, end) as plain:
            read = cast("Read", plain.read)
            yield (read if end is None else _limited(read, end - start)), BLOCK_BYTES


@contextmanager
def seekable(file: SourceFile) -> Generator[IO[bytes]]:
    """A file as it lies there, here or elsewhere, to read at any place."""
    if file.url is not None:
        with open_anywhere(file) as remote:
            yield cast("IO[bytes]", remote)
        return
    assert file.path is not None, "not standard input"
    with file.path.open("rb", buffering=0) as local:
        yield cast("IO[bytes]", local)


def byte_range(file: SourceFile) -> tuple[int, int | None]:
    """The offsets of the lines or row groups of a part of a file; of a whole file, 0 and None, its end.

    OSError or DamagedFooter if they cannot be found.
    """
    if not file.is_part:
        return 0, None
    with seekable(file) as handle:
        if file.format != "parquet":
            return line_range(handle, file.start, file.end)
        return span_of(row_groups(handle, file.start, file.end))


def _limited(read: Read, left: int) -> Read:
    """A read function for the first `left` bytes of what `read` returns."""

    def limited(most: int) -> bytes:
        nonlocal left
        block = read(max(0, min(most, left)))
        left -= len(block)
        return block

    return limited


@contextmanager
def _packed(file: SourceFile) -> Generator[Path | io.BufferedReader]:
    """What a library unpacks: the path of a file that is here, or the bytes of another one."""
    if file.path is not None:
        yield file.path
        return
    with raw_bytes(file) as raw:
        yield io.BufferedReader(raw, BLOCK_BYTES)


@contextmanager
def parquet_source(file: SourceFile) -> Generator[tuple[Any, FileDigest]]:
    """What the library reads a Parquet file from, a path or a file object, and the digest of the file as it lies there."""
    if file.url is not None:
        with open_anywhere(file) as remote:
            yield remote, StateDigest(file)
        return
    assert file.path is not None, "not standard input"
    with file.path.open("rb", buffering=0) as raw:
        yield file.path, FileDigest(raw)


def new_digest() -> Any:
    """A new XXH3 digest of 128 bits: fast, since it reads every byte of a source. It detects changes, not attacks."""
    return xxhash.xxh3_128()


def digest_of(file: SourceFile, n_bytes: int | None = None) -> str | None:
    """The digest of the first `n_bytes` unpacked bytes, or of all. None if there are fewer, or they cannot be read.

    SourceError if the server of a remote file does not answer.
    """
    import zlib

    digest, left = new_digest(), n_bytes
    try:
        if file.url is not None and file.format == "parquet":
            state = StateDigest(file)
            state.between(*byte_range(file))
            state.up_to(n_bytes)
            return state.state().hexdigest()
        with opened(file) as (read, most):
            while left is None or left > 0:
                block = read(most if left is None else min(most, left))
                if not block:
                    break
                digest.update(block)
                left = None if left is None else left - len(block)
    except (OSError, EOFError, zlib.error, DamagedFooter):
        return None
    return None if left else digest.hexdigest()


def plain_head(file: SourceFile, n_bytes: int) -> bytes:
    """The first `n_bytes` of a file as it lies there, or all of it. OSError or SourceError if they cannot be read."""
    if file.url is not None:
        return fetch(file, 0, min(n_bytes, file.size))
    head = b""
    with raw_bytes(file) as plain:
        while len(head) < n_bytes and (block := plain.read(n_bytes - len(head))):
            head += block
    return head


def head_of(file: SourceFile, n_bytes: int) -> bytes:
    """The first `n_bytes` unpacked bytes, or all before the end or before damage."""
    import zlib

    if file.url is not None and file.compression is None:
        return plain_head(file, n_bytes)
    head = b""
    try:
        with opened(file) as (read, _):
            while len(head) < n_bytes and (block := read(n_bytes - len(head))):
                head += block
    except (OSError, EOFError, zlib.error):
        pass
    return head


class FileDigest:
    """A digest of the first bytes of a file as it is on disk, extended on demand."""

    def __init__(self, handle: IO[bytes] | io.RawIOBase) -> None:
        self._handle, self._state, self.n_bytes = handle, new_digest(), 0
        self._most: int | None = None

    def between(self, start: int, end: int | None) -> None:
        """Take the bytes from `start` to `end` alone. Call it first."""
        self._handle.seek(start)
        self._most = None if end is None else end - start

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


class StateDigest(FileDigest):
    """In the place of a digest of bytes for a remote Parquet file, whose bytes would have to be read twice: what the store says
    of its content, and up to which byte. Each read has the condition that the file is still that one."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__(io.BytesIO())
        self._size = file.size
        self._known = f"{file.e_tag or file.mtime_ns} {file.size}".encode()

    def between(self, start: int, end: int | None) -> None:
        self._size = (self._size if end is None else end) - start

    def state(self) -> Any:
        state = new_digest()
        state.update(b"%s %d" % (self._known, self.n_bytes))
        return state

    def up_to(self, n_bytes: int | None = None) -> None:
        self.n_bytes = max(self.n_bytes, self._size if n_bytes is None else n_bytes)
