"""Compare standard input with the stream that a run has already read to its end."""

from __future__ import annotations

import io
import sys
from typing import Any, cast

from ...protocol.errors import RunDirectoryError, SourceError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.run_json import read_spec
from ...protocol.source.check import other_stream_message, read_trail
from ...protocol.source.unpacked import BLOCK_BYTES, new_digest
from ...protocol.spec.run_spec import RunSpec

Boundary = tuple[int | None, str, int]
"""A beginning of the stream: its length in bytes (None: the whole stream), its digest, and its number of records."""


def check_stdin(layout: RunLayout, spec: RunSpec) -> None:
    """Raise SourceError if standard input is not the stream that the run has read, before any file is changed.

    A terminal, or a stream without a byte, is accepted: the run stays as it is. If the run has not read its whole source, the
    coordinator compares the stream while it reads on.
    """
    trail = read_trail(layout)
    if not trail.whole or trail.old or not _has_source(layout, spec):
        return
    boundaries: list[Boundary] = [(passed.n_bytes, passed.digest, cursor.records) for cursor, passed in trail.marks]
    if trail.finished:
        boundaries.append((None, trail.finished[0], 0))
    stream: Any = sys.stdin
    if stream is None or stream.closed or stream.isatty() or not boundaries or not boundaries[-1][1]:
        return
    try:
        _compare(cast("io.BufferedReader", stream.buffer), boundaries)
    except OSError as error:
        raise SourceError(
            f"standard input cannot be read ({error.strerror or error}); give the same stream again"
        ) from error


def _has_source(layout: RunLayout, spec: RunSpec) -> bool:
    try:
        return read_spec(layout).source == spec.source
    except RunDirectoryError:
        return False


def _compare(stream: io.BufferedReader, boundaries: list[Boundary]) -> None:
    state, n_bytes, records = new_digest(), 0, 0
    block = stream.read1(BLOCK_BYTES)
    if not block:
        return
    for upto, digest, after in boundaries:
        while block and (upto is None or n_bytes < upto):
            part = block if upto is None else block[: upto - n_bytes]
            state.update(part)
            n_bytes += len(part)
            block = block[len(part) :] or stream.read1(BLOCK_BYTES)
        if state.hexdigest() != digest or (upto is not None and n_bytes < upto):
            short = upto is not None and n_bytes < upto
            same = f", though its first {records:,} records are the same" if records else ""
            raise SourceError(other_stream_message(("is shorter" if short else "has other content") + same))
        records = after
