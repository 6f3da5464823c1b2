"""The content of a lock object: the process that holds it, and whether that process lives."""

from __future__ import annotations

import os
import socket
import time
import uuid
from datetime import datetime
from pathlib import Path

import msgspec
import psutil

TTL_SECONDS = 180.0
"""A lock that has not been renewed for so long may be taken over."""


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the lock object."""

    token: str
    """Unique for each command, so that it recognises its own lock after an answer was lost."""
    host: str
    pid: int
    started: float = 0.0
    """When the process began, since a later process may get the same number."""
    space: str = ""
    """The boot of the host and the name space in which the number counts."""
    since: float
    """Unix time by the holder's clock, for people."""
    ttl: float
    renewals: int = 0

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).strftime("%Y-%m-%d %H:%M:%S")
        return f"process {self.pid} on {self.host}, since {since}"


def this_process(ttl: float) -> Holder:
    """A holder with a new token."""
    process = psutil.Process()
    return Holder(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        pid=process.pid,
        started=round(process.create_time(), 2),
        space=_space(),
        since=round(time.time(), 3),
        ttl=ttl,
    )


def decode_holder(data: bytes) -> Holder:
    """The holder; an unknown one for an object that this version cannot read."""
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.MsgspecError:
        return Holder(token="", host="a host with another version", pid=0, since=0.0, ttl=TTL_SECONDS)


def lives_here(holder: Holder) -> bool | None:
    """Whether the process lives; None if it is not known, since it is on another host or in another container."""
    if not holder.space or holder.space != _space():
        return None
    try:
        return abs(psutil.Process(holder.pid).create_time() - holder.started) <= 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return None


def is_alive(holder: Holder, renewed: float) -> bool:
    """Whether the holder of a lock that was renewed at this time, by the server's clock, may still write. For a
    holder on another host this is approximate, since it compares with this host's clock."""
    lives = lives_here(holder)
    return time.time() - renewed < holder.ttl if lives is None else lives


def _space() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
