"""Note digests of the source while an intake reads it, and compare them when a later intake reads it again."""

from __future__ import annotations

from ...protocol.errors import SourceError
from ...protocol.run_directory.segment_info import Cursor, Passed
from ...protocol.source.check import (
    Trail,
    difference_while_read,
    other_stream_message,
    source_changed_message,
)
from ...protocol.source.corpus import STDIN
from ...protocol.source.source_file import SourceFile
from ..reading.running_digest import RunningDigest


class SourceTrail:
    """The digests of one intake over `files`. `found` is the trail of an earlier intake; reading continues at its cursor.

    Call `open`, `check` and `close` for each file in order, and `passed` for each segment's cursor.
    """

    def __init__(self, source: str, files: list[SourceFile], found: Trail) -> None:
        self._source, self._files = source, files
        self._later = found.later
        self._expected: Passed | None = found.passed if found.segments else None
        self._begin = found.cursor
        self._noted = found.cursor.file
        """The first file whose digest is in no segment yet."""
        self._finished: list[str] = []
        """Digests from that file on."""
        self._at = found.cursor.file
        self._digest = RunningDigest()
        self._end = Passed()
        """The digest at the end of the last record of a closed file."""

    def open(self, at: int) -> RunningDigest:
        """Begin the digest of file number `at`, and return it."""
        self._at, self._digest = at, RunningDigest()
        return self._digest

    def check(self) -> None:
        """Call before taking records: SourceError if the source before them differs from what the earlier intake read."""
        if self._expected is not None and self._at == self._begin.file and self._digest.reached >= self._begin.records:
            self._compare(self._expected)

    def hold(self, cursor: Cursor) -> None:
        """Note that no record up to `cursor` is pending, which frees blocks of the digest."""
        self._digest.hold(cursor.records if cursor.file == self._at else self._digest.reached)

    def close(self, cursor: Cursor) -> None:
        """Note that the open file was read to its end; `cursor` is the last record that was taken.

        SourceError if the file changed while it was read: what was read may be a mixture, or a part of it.
        """
        if self._expected is not None and self._at == self._begin.file:
            self._compare(self._expected)
        if cursor.file == self._at:
            self._end = self._digest.mark(cursor.records)
        self._finished.append(self._digest.total)
        if (difference := difference_while_read(self._files[self._at], self._digest.total)) is not None:
            raise SourceError(source_changed_message(self._source, difference))

    def passed(self, cursor: Cursor) -> Passed:
        """The digests of the source up to the cursor of a segment that is about to be written."""
        closed = self._noted + len(self._finished) > cursor.file
        mark = self._end if closed else self._digest.mark(cursor.records)
        done = cursor.file - self._noted
        finished, self._finished, self._noted = tuple(self._finished[:done]), self._finished[done:], cursor.file
        before = self._later.get(cursor)
        if before is not None and (before.n_bytes, before.digest) != (mark.n_bytes, mark.digest):
            raise self._changed(cursor)
        return Passed(finished=finished, n_bytes=mark.n_bytes, digest=mark.digest)

    @property
    def finished(self) -> tuple[str, ...]:
        """Digests of the files since the cursor of the last segment."""
        return tuple(self._finished)

    def _compare(self, expected: Passed) -> None:
        self._expected = None
        if not expected.digest and (self._source != STDIN or self._digest.reached >= self._begin.records):
            return  # a run of 0.1.0, which noted no digests
        found = self._digest.mark(self._begin.records)
        if (found.n_bytes, found.digest) == (expected.n_bytes, expected.digest):
            return
        raise self._changed(self._begin)

    def _changed(self, cursor: Cursor) -> SourceError:
        if self._source == STDIN:
            short = self._digest.reached < cursor.records
            how = (
                f"ends after record {self._digest.reached:,}"
                if short
                else f"differs before record {cursor.records + 1:,}"
            )
            return SourceError(other_stream_message(how))
        return SourceError(source_changed_message(self._source, f"{self._files[cursor.file].name} has other content"))
