"""Find repeated ids among billions, in bounded memory: their digests go to files by their first bits, and each file is
sorted alone.

Two ids with the same BLAKE2b-128 digest count as the same.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<i8")])
PART_BYTES = 32 << 20
"""About the size of a file that is sorted at once."""
MOST_PARTS = 256
"""The number of files, at most: each needs a descriptor and BUFFER_BYTES."""
BUFFER_BYTES = 1 << 16


class IdTable:
    """A scratch table of (digest of an id, place), in files without names in `folder`: 24 bytes for each id."""

    def __init__(self, folder: Path, ids: int) -> None:
        """For about so many `ids`."""
        parts = min(MOST_PARTS, max(1, ids * ENTRY.itemsize // PART_BYTES))
        self._bits = (parts - 1).bit_length()
        self._files: list[IO[bytes]] = []
        try:
            for _ in range(1 << self._bits):
                self._files.append(tempfile.TemporaryFile(buffering=BUFFER_BYTES, dir=folder))  # noqa: SIM115 - closed below
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the disk."""
        for file in self._files:
            file.close()

    def add(self, ids: Any, first: int) -> None:
        """Add an Arrow array of ids with places from `first` on. Call it with ascending places."""
        entries = np.empty(len(ids), ENTRY)
        digests = b"".join([hashlib.blake2b(one, digest_size=16).digest() for one in ids.cast("binary").to_pylist()])
        halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
        entries["high"], entries["low"] = halves[:, 0], halves[:, 1]
        entries["place"] = np.arange(first, first + len(ids))
        if not self._bits:
            self._files[0].write(entries.tobytes())
            return
        parts = (entries["high"] >> np.uint64(64 - self._bits)).astype(np.int64)
        order = np.argsort(parts, kind="stable")
        entries, parts = entries[order], parts[order]
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(parts)], strict=True):
            self._files[parts[start]].write(entries[start:stop].tobytes())

    def repeated(self) -> Iterator[tuple[Places, Places]]:
        """For each file with such ids: (first places, later places), two arrays of one length. The id of a later place is
        that of its first place."""
        for file in self._files:
            file.seek(0)
            entries = np.frombuffer(file.read(), ENTRY)
            order = np.argsort(entries["high"], kind="stable")
            high = entries["high"][order]
            same = high[1:] == high[:-1]
            if same.any():
                near = order[np.append(same, False) | np.append(False, same)]
                yield from _repeated(entries[near])


def _repeated(entries: npt.NDArray[Any]) -> Iterator[tuple[Places, Places]]:
    """The repeated ids among these entries, in the form of `IdTable.repeated`."""
    entries = entries[np.lexsort((entries["place"], entries["low"], entries["high"]))]
    again = (entries["high"][1:] == entries["high"][:-1]) & (entries["low"][1:] == entries["low"][:-1])
    if not again.any():
        return
    later = np.append(False, again)
    heads = np.maximum.accumulate(np.where(later, -1, np.arange(len(entries))))
    yield entries["place"][heads[later]], entries["place"][later]
