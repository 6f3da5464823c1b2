"""One writer of a run directory in object storage: a lock object that its holder renews, and that another may take over once it
has expired or its holder on this host is dead.

All changes of the object are conditional on its e_tag. Times are compared by the server's clock alone: that of the lock's last
renewal, and that of an object that was put a moment ago. The holder counts on a clock that goes on while the host sleeps.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..errors import EmbedfleetError, RunDirectoryError
from ..run_directory.directory_lock import STORE_LOCK
from .failures import describe
from .lock_record import TTL_SECONDS, Holder, decode_holder, lives_here, this_process
from .objects import ObjectFolder, StoredObject

MARGIN_SECONDS = 90.0
"""In the last seconds of its lock the holder puts nothing more, so that its last request ends before another run begins."""
RENEWALS = 12
"""The number of renewals in the time of a lock."""
TRIES = 5
REFUSED = ("AlreadyExistsError", "PreconditionError")
"""Names of the errors of conditional puts."""


class LeaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `lease.json`: until when the processes of this host may put objects."""

    until: float
    """By `boot_clock`."""
    lost: str = ""
    """Why the lock is lost; empty while it is not."""


def boot_clock() -> float:
    """Seconds since the host was booted, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def check_lease(path: Path) -> None:
    """Raise EmbedfleetError if the lock may belong to another run by now: nothing may be put."""
    try:
        lease = msgspec.json.decode(path.read_bytes(), type=LeaseFile)
    except (OSError, msgspec.MsgspecError):
        raise EmbedfleetError(
            f"{path}: is gone or damaged, so nothing more is written; run the same command again"
        ) from None
    if lease.lost:
        raise EmbedfleetError(lease.lost)
    if boot_clock() > lease.until:
        raise EmbedfleetError(
            "the lock of the run directory could not be renewed in time, so nothing more is written there; check the network, "
            "and run the same command again"
        )


class Lease:
    """The lock on one run directory. Enter to take it, leave to give it back. `now` is the server's time, in ns."""

    def __init__(
        self,
        folder: ObjectFolder,
        path: Path,
        now: int,
        *,
        ttl: float = TTL_SECONDS,
        say: Callable[[str], None] = lambda _line: None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`path` is the lease file, for the processes of this host. `say` gets a line if an old lock has to expire first."""
        self._folder, self._path, self._now, self._ttl = folder, path, now, ttl
        self._say, self._wait = say, wait
        self._holder = this_process(ttl)
        self._e_tag, self._begin = "", 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """RunDirectoryError if another run has it, with its host and since when.

        A lock of another host is watched: if nobody renews it, it is taken over once it has expired.
        """
        self._e_tag = self._take()
        try:
            self._note(self._begin)
        except OSError as error:
            self._give_back()
            raise RunDirectoryError(
                f"{self._path}: {error.strerror or error}; make room there, or give a folder on another disk with --spool"
            ) from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(EmbedfleetError):
            check_lease(self._path)
            self._give_back()
        self._path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Renew it once. If another process has it, nothing more may be put; an error of the network changes nothing."""
        begin = boot_clock()
        holder = msgspec.structs.replace(self._holder, renewals=self._holder.renewals + 1)
        try:
            self._e_tag = self._folder.put_if(STORE_LOCK, msgspec.json.encode(holder), self._e_tag)
        except Exception:  # noqa: BLE001 - the object itself says what happened
            try:
                found = self._folder.get(STORE_LOCK)
            except Exception:  # noqa: BLE001 - unknown: the lease lasts until it ends
                return
            other = decode_holder(found[0]) if found is not None else None
            if found is None or other is None or other.token != holder.token:
                self._lose(other)
                return
            self._e_tag = found[1].e_tag
            if other.renewals != holder.renewals:  # refused for another reason
                return
        self._holder = holder
        self._note(begin)

    def _renew(self) -> None:
        while not self._ended.wait(self._ttl / RENEWALS):
            with contextlib.suppress(OSError):  # of a full disk: the next time may do
                self.renew()

    def _take(self) -> str:
        content, expected = msgspec.json.encode(self._holder), None
        for _ in range(TRIES):
            self._begin = boot_clock()
            try:
                return self._folder.put_if(STORE_LOCK, content, expected)
            except Exception as error:  # noqa: BLE001 - the object itself says what happened
                failure: Exception = error
            found = self._folder.get(STORE_LOCK)
            if found is None:  # given back a moment ago, or nothing can be put at all
                if expected is None and type(failure).__name__ not in REFUSED:
                    raise RunDirectoryError(
                        f"{self._folder.address}: {describe(failure, self._folder.address)}"
                    ) from failure
                expected = None
                continue
            holder, about = decode_holder(found[0]), found[1]
            if holder.token == self._holder.token:  # an earlier attempt had arrived
                return about.e_tag
            self._await_end(self._folder, holder, about)
            expected = about.e_tag
        raise RunDirectoryError(
            f"--out {self._folder.address}: its lock changes all the time; run the same command again later"
        )

    def look_at(self, folder: ObjectFolder) -> None:
        """Return once nobody has the lock of a folder that holds this one, or is part of it. RunDirectoryError if one has it.

        Called while this lease is held: so of two who begin at once, at least one sees the other.
        """
        found = folder.get(STORE_LOCK)
        if found is not None:
            self._await_end(folder, decode_holder(found[0]), found[1])

    def _give_back(self) -> None:
        """Delete the lock if it is still one's own; without a network it expires by itself."""
        with contextlib.suppress(Exception):
            found = self._folder.get(STORE_LOCK)
            if found is not None and decode_holder(found[0]).token == self._holder.token:
                self._folder.delete([STORE_LOCK])

    def _await_end(self, folder: ObjectFolder, holder: Holder, about: StoredObject) -> None:
        """Return once the lock has expired, was given back, or its holder is dead. RunDirectoryError if it lives."""
        lives = lives_here(holder)
        left = holder.ttl + 1 - (self._now - about.mtime_ns) / 1e9
        patience, waited, announced = 2 * holder.ttl / RENEWALS, 0.0, False
        while not lives and lives is not False and left > 0:
            step = min(left, holder.ttl / RENEWALS / 4)
            self._wait(step)
            left, waited = left - step, waited + step
            found = folder.get(STORE_LOCK)
            if found is None:
                return
            if found[1].e_tag != about.e_tag:
                holder, lives = decode_holder(found[0]), True
            elif waited > patience and not announced:
                announced = True
                self._say(
                    f"the lock of {holder} has not been renewed for a while; it is taken over in {left:.0f} s unless it is"
                )
        if lives:
            raise RunDirectoryError(
                f"--out {folder.address}: another run is writing there ({holder}); wait for it or give another folder"
            )

    def _lose(self, other: Holder | None) -> None:
        who = f"process {other.pid} on {other.host} has taken it" if other is not None else "it was deleted"
        lost = f"{self._folder.address}: this run has lost the lock: {who}; nothing more was written. Run one command at a time"
        self._write(LeaseFile(until=0.0, lost=lost))
        self._ended.set()

    def _note(self, begin: float) -> None:
        self._write(LeaseFile(until=begin + self._ttl - min(MARGIN_SECONDS, self._ttl / 2)))

    def _write(self, lease: LeaseFile) -> None:
        partial = self._path.with_suffix(".tmp")
        partial.write_bytes(msgspec.json.encode(lease))
        os.replace(partial, self._path)
