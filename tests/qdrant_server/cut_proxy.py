"""A proxy between a client and a server, which cuts their connections when a test wants it."""

from __future__ import annotations

import selectors
import socket
import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

HOST = "127.0.0.1"
CHUNK = 1 << 14


class CutProxy(socketserver.ThreadingTCPServer):
    """Passes on what it gets, in both directions."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.cuts = 0
        """Connections that were cut by `cut_after`."""
        self._left: int | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((HOST, 0), Passing)

    @property
    def port(self) -> int:
        return self.server_address[1]

    def cut_after(self, count: int | None) -> None:
        """Cut the connection on which the server would get more than `count` bytes from now on, in the middle of them, once."""
        with self._lock:
            self._left = count

    def cut_all(self) -> None:
        """Cut every connection now."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):  # its other side has closed it
                    one.shutdown(socket.SHUT_RDWR)

    def passes(self, data: bytes) -> bytes:
        """What the server may get of this; less than `data` if the connection is to be cut."""
        with self._lock:
            if self._left is None:
                return data
            self._left -= len(data)
            if self._left >= 0:
                return data
            kept, self._left = data[: self._left], None
            self.cuts += 1
            return kept

    @contextmanager
    def opened(self, one: socket.socket) -> Generator[None]:
        """Know the client's side of a connection while it is open."""
        with self._lock:
            self._open.add(one)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(one)


class Passing(socketserver.BaseRequestHandler):
    """One connection."""

    server: CutProxy

    def handle(self) -> None:
        client: socket.socket = self.request
        with (
            socket.create_connection((HOST, self.server.target)) as server,
            selectors.DefaultSelector() as ready,
            self.server.opened(client),
        ):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while all(self._pass(key.fileobj, key.data, client) for key, _ in ready.select()):
                pass

    def _pass(self, source: socket.socket, target: socket.socket, client: socket.socket) -> bool:
        """Pass on what has come; whether the connection goes on."""
        try:
            data = source.recv(CHUNK)
            kept = self.server.passes(data) if source is client else data
            target.sendall(kept)
        except OSError:
            return False
        return bool(data) and kept == data


@contextmanager
def passing(target: int) -> Generator[CutProxy]:
    """A proxy before the port `target`."""
    with CutProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            proxy.cut_all()
