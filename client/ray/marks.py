"""Marks in --out, by which the command and the nodes see whether they write to the same place."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from ...protocol.errors import EmbedfleetError, RunDirectoryError
from ...protocol.object_storage.address import parse_address
from ...protocol.object_storage.failures import describe
from ...protocol.object_storage.objects import ObjectFolder
from ...protocol.object_storage.probe import probe
from ...protocol.object_storage.stores import PROBE_PATIENCE

SHARED_SECONDS = 10.0
"""How long a file may take to appear on another node: clients of NFS cache a folder for some seconds."""
PREFIX = ".embedfleet-probe-"
STORED = ".embedfleet.mark."


class FolderMark:
    """A file in a folder: `place` is its path and `token` its content.

    Enter to write it, and the folder if it is missing. RunDirectoryError if that cannot be done.
    """

    def __init__(self, out: str) -> None:
        self._out, self.token = Path(out), uuid.uuid4().hex
        self._missing = [one for one in (self._out, *self._out.parents) if not one.exists()]
        self._mark = self._out / f"{PREFIX}{self.token}"
        self.place = str(self._mark)

    def __enter__(self) -> FolderMark:
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            self._mark.write_text(self.token)
        except OSError as error:
            self.__exit__()
            raise RunDirectoryError(
                f"--out {self._out}: {error.strerror or error}; give a folder that this process can write to"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            for path in self._out.glob(f"{self._mark.name}*"):
                path.unlink(missing_ok=True)
            for folder in self._missing:  # made here; the first in the list is the lowest
                folder.rmdir()

    def sees(self, name: str) -> bool:
        """Whether a file that a node wrote beside it is seen here within SHARED_SECONDS."""
        return look_until(self._mark.with_name(name).exists, [self._out], time.monotonic() + SHARED_SECONDS)


class StoredMark:
    """An object below the address `place`, with the content `token`.

    Enter to put it. RunDirectoryError with the remedy if the store refuses.
    """

    def __init__(self, out: str) -> None:
        self.place, self.token = out, uuid.uuid4().hex
        self._address = parse_address(out, "--out", RunDirectoryError)

    def __enter__(self) -> StoredMark:
        probe(self._address)
        self._objects = ObjectFolder(self._address, PROBE_PATIENCE)
        try:
            self._objects.put(f"{STORED}{self.token}", self.token.encode())
        except Exception as error:
            raise RunDirectoryError(f"--out {self._address}: {describe(error, self._address)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # the nodes have answered: an object is left
            self._objects.delete([f"{STORED}{self.token}"])


def find_stored_problem(out: str, token: str) -> str:
    """Why this host cannot use the address, and the remedy; empty if it can, and finds the mark with this token there."""
    address = parse_address(out, "--out", RunDirectoryError)
    try:
        probe(address)
        found = ObjectFolder(address, PROBE_PATIENCE).get(f"{STORED}{token}")
    except EmbedfleetError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever the library raises is named
        return f"--out {address}: {describe(error, address)}"
    if found is None or found[0] != token.encode():
        return (
            f"--out {address} is another place there: what the command put is missing; set AWS_ENDPOINT_URL and the like, and "
            "the account, there as where the command runs"
        )
    return ""


def look_until(seen: Callable[[], bool], folders: Iterable[Path], end: float) -> bool:
    """Whether what another node wrote into these folders is seen here before `end`, by the steady clock."""
    while not seen():
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
        for folder in folders:
            with contextlib.suppress(OSError):
                os.listdir(folder)  # makes the NFS client refresh its cache of the folder
    return True
