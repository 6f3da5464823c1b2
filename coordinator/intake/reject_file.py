"""The rejected records of the segment that is being collected."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import orjson

from ...protocol.run_directory.atomic_files import commit_file
from ..reading.records import Reject


class RejectFile:
    """The records rejected since the last segment, written to disk at once: they may not all fit in memory."""

    def __init__(self, folder: Path) -> None:
        self.count = 0
        self._path = folder / ".rejected.tmp"
        self._handle: IO[bytes] | None = None

    def add(self, file: str, number: int, reject: Reject, from_byte: int = 0) -> None:
        """Write a line for a rejected record: file, record, the byte from which it is counted if that is not 0, id if known,
        reason, excerpt."""
        if self._handle is None:
            self._handle = self._path.open("wb")
        line: dict[str, str | int] = {"file": file, "record": number}
        if from_byte:
            line["from_byte"] = from_byte
        if reject.id is not None:
            line["id"] = reject.id
        line |= {"reason": reject.reason, "excerpt": reject.excerpt}
        self._handle.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self.count += 1

    def commit(self, path: Path) -> None:
        """Commit the lines as `path`, if there are any, and start over."""
        if self._handle is not None:
            self.close()
            commit_file(path, self._move)
        self.count = 0

    def _move(self, partial: Path) -> None:
        self._path.replace(partial)

    def close(self) -> None:
        """Close the file; lines that were not committed are void."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
