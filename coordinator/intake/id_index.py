"""The ids seen so far, on disk, so that the check needs the same memory for a corpus of any size."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import RunDirectoryError

CACHE_KIB = 8 * 1024
MOST_PATH_BYTES = 504
"""Longest path of a database: SQLite allows 512 bytes, eight of them for the suffixes of its other files."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Positions in a batch, by outcome. A conflict names the row that holds the id with another text too."""

    new: list[int]
    duplicates: list[int]
    conflicts: list[tuple[int, int]]


def text_digest(data: bytes) -> bytes:
    """BLAKE2b-128 of a text's UTF-8: two texts with equal digests count as the same."""
    return hashlib.blake2b(data, digest_size=16).digest()


class IdIndex:
    """A scratch SQLite table of (id, digest, row). It starts empty, is never committed, and `close` deletes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if len(name := os.fsencode(path.absolute())) > MOST_PATH_BYTES:
            raise RunDirectoryError(
                f"{path}: a path of {len(name):,} bytes, and the list of ids can have {MOST_PATH_BYTES} at most; "
                "give a run directory with a shorter path"
            )
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KIB}"):
            self._db.execute(f"PRAGMA {setting}").close()
        self._db.execute("CREATE TABLE ids (id TEXT PRIMARY KEY, digest BLOB, row INTEGER) WITHOUT ROWID")
        # One transaction for all: pages then go to disk when the cache is full, not after each batch.
        self._db.execute("BEGIN")

    def admit(self, ids: Sequence[str], digests: Sequence[bytes], first_row: int) -> Admission | None:
        """Add the new ids with rows from `first_row` without gaps. Return None if all are new.

        `first_row` must be above every row added before.
        """
        before = self._db.total_changes
        rows = zip(ids, digests, range(first_row, first_row + len(ids)), strict=True)
        self._db.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", rows)
        if self._db.total_changes - before == len(ids):
            return None
        return self._look_closer(ids, digests, first_row)

    def _look_closer(self, ids: Sequence[str], digests: Sequence[bytes], first_row: int) -> Admission:
        """Sort the ids of a batch by outcome. A new id has the row `first_row` + its position; any other row is older."""
        holders: list[tuple[bytes, int]] = [
            self._db.execute("SELECT digest, row FROM ids WHERE id = ?", (one,)).fetchone() for one in ids
        ]
        new = [position for position, (_, row) in enumerate(holders) if row == first_row + position]
        final = {first_row + position: row for row, position in enumerate(new, first_row)}
        duplicates: list[int] = []
        conflicts: list[tuple[int, int]] = []
        for position, (digest, row) in enumerate(holders):
            if row == first_row + position:
                continue
            if digest == digests[position]:
                duplicates.append(position)
            else:
                conflicts.append((position, final.get(row, row)))
        moved = [(row, ids[position]) for row, position in enumerate(new, first_row) if row != first_row + position]
        self._db.executemany("UPDATE ids SET row = ? WHERE id = ?", moved)
        return Admission(new, duplicates, conflicts)

    def close(self) -> None:
        """Close and delete the file; it can be rebuilt from the segments."""
        self._db.close()
        self._path.unlink(missing_ok=True)
