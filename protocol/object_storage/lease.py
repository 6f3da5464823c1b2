"""One writer of a run directory in object storage: a lock object that its holder renews, and that another may take over once it
has expired or its holder on this host is dead.

All changes of the object are conditional on its e_tag. Times are compared by the server's clock alone: that of the lock's last
renewal, and that of an object that was put a moment ago. The holder counts on a clock that goes on while the host sleeps.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from datetime import datetime
from pathlib import Path

import msgspec
import psutil

from ..errors import EmbedfleetError, RunDirectoryError
from .failures import describe
from .objects import ObjectFolder, StoredObject

LOCK = ".embedfleet.lock"
TTL_SECONDS = 180.0
"""A lock that has not been renewed for so long may be taken over."""
MARGIN_SECONDS = 90.0
"""So long before that the holder puts nothing more: its last request has ended when another run begins."""
RENEWALS = 12
"""So many fit into that time, one after the other."""
TRIES = 5
_REFUSED = ("AlreadyExistsError", "PreconditionError")


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the lock object."""

    token: str
    """Of one command: it recognises its own lock after an answer was lost."""
    host: str
    pid: int
    started: float = 0.0
    """When the process began, which tells it from a later one with its number."""
    space: str = ""
    """The boot of the host and the name space in which the number counts."""
    since: float
    """Unix time by the holder's clock, for people."""
    ttl: float
    renewals: int = 0


class LeaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `lease.json`: until when the processes of this host may put objects."""

    until: float
    """By `boot_clock`."""
    lost: str = ""
    """Why not any more; empty if nothing is known against it."""


def boot_clock() -> float:
    """Seconds since the host was booted, with those that it slept."""
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

    def __init__(self, folder: ObjectFolder, path: Path, now: int, ttl: float = TTL_SECONDS) -> None:
        """`path` is the lease file, for the processes of this host."""
        self._folder, self._path, self._now, self._ttl = folder, path, now, ttl
        process = psutil.Process()
        self._holder = Holder(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            pid=process.pid,
            started=round(process.create_time(), 2),
            space=_space(),
            since=round(time.time(), 3),
            ttl=ttl,
        )
        self._e_tag = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        """RunDirectoryError if another run has it, with its host and since when."""
        begin = boot_clock()
        self._e_tag = self._take()
        self._note(begin)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        try:
            check_lease(self._path)
            found = self._folder.get(LOCK)
            if found is not None and _decoded(found[0]).token == self._holder.token:
                self._folder.delete([LOCK])
        except Exception:  # noqa: BLE001, S110 - it expires by itself
            pass
        self._path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Renew it once. If it is another's by now, nothing more may be put; an error of the network changes nothing."""
        begin = boot_clock()
        holder = msgspec.structs.replace(self._holder, renewals=self._holder.renewals + 1)
        try:
            self._e_tag = self._folder.put_if(LOCK, msgspec.json.encode(holder), self._e_tag)
        except Exception:  # noqa: BLE001 - the object itself says what happened
            try:
                found = self._folder.get(LOCK)
            except Exception:  # noqa: BLE001 - unknown: the lease lasts until it ends
                return
            other = _decoded(found[0]) if found is not None else None
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
            try:
                return self._folder.put_if(LOCK, content, expected)
            except Exception as error:  # noqa: BLE001 - the object itself says what happened
                failure: Exception = error
            found = self._folder.get(LOCK)
            if found is None:  # given back a moment ago, or nothing can be put at all
                if expected is None and type(failure).__name__ not in _REFUSED:
                    raise RunDirectoryError(
                        f"{self._folder.address}: {describe(failure, self._folder.address)}"
                    ) from failure
                expected = None
                continue
            holder, about = _decoded(found[0]), found[1]
            if holder.token == self._holder.token:  # an earlier attempt had arrived
                return about.e_tag
            if not self._may_take(holder, about):
                raise self._refusal(holder, about)
            expected = about.e_tag
        raise RunDirectoryError(
            f"--out {self._folder.address}: its lock changes all the time; run the same command again later"
        )

    def _may_take(self, holder: Holder, about: StoredObject) -> bool:
        return self._left(holder, about) <= 0 or _is_dead(holder)

    def _left(self, holder: Holder, about: StoredObject) -> float:
        """Seconds until the lock expires."""
        return holder.ttl + 1 - (self._now - about.mtime_ns) / 1e9

    def _refusal(self, holder: Holder, about: StoredObject) -> RunDirectoryError:
        since = datetime.fromtimestamp(holder.since).strftime("%Y-%m-%d %H:%M:%S")
        left = max(1, round(self._left(holder, about)))
        return RunDirectoryError(
            f"--out {self._folder.address}: another run is writing there (process {holder.pid} on {holder.host}, since "
            f"{since}); wait for it or give another folder. If it was killed, its lock ends in {left} s"
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


def _decoded(data: bytes) -> Holder:
    """The holder; one that nobody knows, for an object that this version cannot read."""
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.MsgspecError:
        return Holder(token="", host="a host with another version", pid=0, since=0.0, ttl=TTL_SECONDS)


def _space() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_dead(holder: Holder) -> bool:
    """Whether the holder is a process of this host that has ended."""
    if not holder.space or holder.space != _space():
        return False
    try:
        return abs(psutil.Process(holder.pid).create_time() - holder.started) > 1
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
