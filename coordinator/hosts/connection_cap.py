"""Bound the connections of a listening socket, so that idle ones cannot use up the process's open files.

libzmq has no such bound, and closes a silent connection only after its handshake timeout. So this module watches libzmq's
events and shuts down connections beyond the bound at once. If one of our own peers is cut off, it reconnects by itself.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import struct

import zmq

from ...protocol.wire.channels import tune

MOST_FILES = 1 << 16
"""Upper bound for the limit of open files to request: some systems allow a billion."""
RESERVED_FILES = 256
"""Open files that are kept for run directories, child processes and libraries."""
LINKS = 3
MOST_CONNECTIONS = 4_096
EVENTS_QUEUED = 100_000
_EVENT = struct.Struct("=Hi")
"""An event and its descriptor, as `zmq_socket_monitor(3)` has them. pyzmq's own reader imports asyncio, which takes 50 ms."""
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED


def raise_file_limit() -> int:
    """Raise the limit of open files, for this process and its children, to the system's hard limit; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = MOST_FILES if hard == unlimited else min(hard, MOST_FILES)
    if soft != unlimited and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a container that forbids it: the soft limit stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == unlimited else soft


def connections_allowed() -> int:
    """The bound for each link, from the number of files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = MOST_CONNECTIONS if files == resource.RLIM_INFINITY else (files - RESERVED_FILES) // LINKS
    return max(16, min(MOST_CONNECTIONS, share))


class ConnectionCap:
    """Watches one listening socket. `monitor` becomes readable when a connection comes or goes: call `enforce` then."""

    def __init__(self, listening: zmq.Socket[bytes], most: int) -> None:
        self._listening, self._most = listening, most
        self._open: set[int] = set()
        address = f"inproc://connections-{id(self)}"
        listening.monitor(address, _EVENTS)
        self.monitor: zmq.Socket[bytes] = tune(listening.context.socket(zmq.PAIR), EVENTS_QUEUED)
        self.monitor.connect(address)
        self.refused = 0
        """Connections that were shut down."""

    def enforce(self) -> None:
        """Shut down the newest connections beyond the bound."""
        fresh: list[int] = []
        while self.monitor.poll(0):
            event, fd = _EVENT.unpack(self.monitor.recv_multipart()[0])
            if event == zmq.EVENT_ACCEPTED:
                self._open.add(fd)
                fresh.append(fd)
            else:
                self._open.discard(fd)
        for fd in reversed(fresh):
            if len(self._open) <= self._most:
                break
            if fd in self._open:
                self._open.discard(fd)
                self._shut(fd)

    def close(self) -> None:
        """Stop watching."""
        self._listening.disable_monitor()
        self.monitor.close(linger=0)

    def _shut(self, fd: int) -> None:
        """Shut a connection down. libzmq sees its end and closes the descriptor, which stays libzmq's."""
        with contextlib.suppress(OSError):  # closed meanwhile
            connection = socket.socket(fileno=fd)  # no copy of it: there may be no descriptor left
            try:
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()
            self.refused += 1
