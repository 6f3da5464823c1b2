"""Addresses and socket settings of the links.

A coordinator has one address. `ipc:///folder` is a folder with one socket for each link; `tcp://host:port` uses that port
and the next two. The export link is always local.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import zmq

from ..errors import EmbedfleetError, UsageError

IPC_PATH_LIMIT = 107
"""Bytes of a Unix socket's path on Linux (sun_path, less the closing NUL)."""

MAX_FRAME_BYTES = 1 << 30
HANDSHAKE_MS = 2_000
HIGH_WATER = 64
"""Messages queued per peer and direction. Credits keep the actual number below ten."""


@dataclass(frozen=True, slots=True)
class Address:
    """A coordinator's address; the links' endpoints derive from it."""

    base: str

    @property
    def control(self) -> str:
        return self._link("control", 0)

    @property
    def hosts(self) -> str:
        return self._link("hosts", 1)

    @property
    def work(self) -> str:
        return self._link("work", 2)

    @property
    def folder(self) -> Path | None:
        """The folder of the sockets, for ipc."""
        return Path(self.base.removeprefix("ipc://")) if self.base.startswith("ipc://") else None

    def _link(self, name: str, port: int) -> str:
        if self.folder is not None:
            return f"ipc://{self.folder / name}"
        host, _, first = self.base.rpartition(":")
        return f"{host}:{int(first) + port}"


def parse_address(text: str, flag: str) -> Address:
    """Check an address given by a user; UsageError names the flag."""
    if text.startswith("ipc://"):
        folder = Path(text.removeprefix("ipc://"))
        if not folder.is_absolute():
            raise UsageError(f"{flag} {text}: give an absolute folder, as in ipc:///run/user/1000/embedfleet")
        longest = len(os.fsencode(folder / "export-100"))
        if longest > IPC_PATH_LIMIT:
            raise UsageError(
                f"{flag} {text}: the socket's path has {longest} bytes, the system allows {IPC_PATH_LIMIT}; "
                "choose a shorter folder"
            )
        return Address(f"ipc://{folder}")
    if text.startswith("tcp://"):
        host, _, port = text.removeprefix("tcp://").rpartition(":")
        if not port.isdigit() or not 0 < int(port) < 65_534:
            raise UsageError(f"{flag} {text}: give a port from 1 to 65533 (the two after it are used too)")
        if not _loopback(host):
            raise UsageError(
                f"{flag} {text}: TCP is for this machine only (127.0.0.1, localhost or [::1]) while links carry no keys; "
                "across machines, forward the three ports through SSH"
            )
        return Address(text)
    raise UsageError(f"{flag} {text}: give ipc:///folder or tcp://127.0.0.1:PORT")


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tune(socket: zmq.Socket[bytes], high_water: int = HIGH_WATER) -> zmq.Socket[bytes]:
    """Set the limits of every socket: frame size, queue length, handshake time. Closing does not wait."""
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.SNDHWM, high_water)
    socket.setsockopt(zmq.RCVHWM, high_water)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, 1)
    if socket.type == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a peer that reconnects under its name takes over at once
    return socket


def bind(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, endpoint: str, high_water: int = HIGH_WATER
) -> zmq.Socket[bytes]:
    """A tuned socket, bound; UsageError where the address is taken."""
    socket = tune(context.socket(kind), high_water)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        message = f"cannot listen on {endpoint}: {error.strerror}"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise EmbedfleetError(f"{message}; allow more (ulimit -n 1024)") from error
        hint = "; is a coordinator running there?" if error.errno == errno.EADDRINUSE else ""
        raise UsageError(f"{message}{hint}") from error
    return socket


def unlink_socket(endpoint: str) -> None:
    """Remove the file of an ipc endpoint whose socket is closed: libzmq leaves it behind."""
    if endpoint.startswith("ipc://"):
        with contextlib.suppress(OSError):
            os.unlink(endpoint.removeprefix("ipc://"))


def connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, identity: bytes | None = None) -> zmq.Socket[bytes]:
    """A tuned DEALER, connected."""
    socket = tune(context.socket(zmq.DEALER))
    if identity is not None:
        socket.setsockopt(zmq.IDENTITY, identity)
    socket.connect(endpoint)
    return socket
