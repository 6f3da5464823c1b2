"""`python -m embedfleet.coordinator.hosts.attached_agent`: a host agent that attaches from outside.

`embedfleet worker` starts it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from ...protocol.errors import EmbedfleetError, Unreachable
from ...protocol.process import lifeline
from ...protocol.process.standard_streams import guard_standard_error
from ...protocol.process.stop_signals import stop_signals
from ...protocol.text.terminal_text import printable
from ...protocol.version import PROTOCOL, __version__
from ...protocol.wire import channels
from ...protocol.wire.codec import Decoder, encode
from ...protocol.wire.hosts import (
    Goodbye,
    HostAlive,
    HostHello,
    HostLeaving,
    HostRefused,
    HostWelcome,
    Kill,
    Spawn,
    ToHost,
)
from .agent import HostAgent
from .connection_cap import raise_file_limit
from .discovery import discover

ALIVE_SECONDS = 1.0
SILENCE_SECONDS = 10.0
"""Without an answer from the coordinator for so long, the agent ends its workers and says hello again."""


class AttachedHost:
    """One agent's conversation with its coordinator. `say` shows a line to people."""

    def __init__(
        self, address: channels.Address, devices: str | None, patience: float, say: Callable[[str], None]
    ) -> None:
        host = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(2).hex()}"  # containers may share the first two
        self._agent = HostAgent(host, discover(devices, host), address.work)
        self._address, self._patience, self._say = address, patience, say
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = channels.connect(self._context, address.hosts)
        self._decoder: Decoder[ToHost] = Decoder(ToHost)
        self._welcome = False
        self._heard = time.monotonic()
        self._asked = -SILENCE_SECONDS
        self.signals: list[int] = []

    def run(self) -> None:
        """Serve until the coordinator says goodbye or a signal arrives; Unreachable after `patience` seconds of silence."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        watched: set[int] = set()
        called = 0.0
        while not self.signals:
            now = time.monotonic()
            if now - called >= ALIVE_SECONDS:
                called = now
                self._call(now)
            for gone in self._agent.reap():
                self._send(gone)
            wanted = set(self._agent.pidfds())
            for fd in watched - wanted:
                poller.unregister(fd)
            for fd in wanted - watched:
                poller.register(fd, zmq.POLLIN)
            watched = wanted
            ready = dict(poller.poll(100 if self._agent.awaiting_release else int(ALIVE_SECONDS * 1000)))
            if self._socket in ready and not self._receive():
                return

    def close(self) -> None:
        """Send the coordinator a farewell after a signal, end the workers, free the socket."""
        if self.signals and self._welcome:  # first: workers may end slowly, and their batches need not wait
            self._send(HostLeaving(self._agent.host))
        self._agent.close()
        self._socket.close(linger=500)
        self._context.term()

    def _call(self, now: float) -> None:
        silence = now - self._heard
        if self._welcome and silence > SILENCE_SECONDS:
            self._say(f"no answer from {self._address.base} for {silence:.0f} s: ending the workers, trying again")
            self._agent.close()
            self._welcome, self._asked = False, -SILENCE_SECONDS
        if not self._welcome and silence > self._patience:
            raise Unreachable(
                f"--connect {self._address.base}: no coordinator answers; start one with: embedfleet serve --bind ADDRESS"
            )
        if self._welcome:
            self._send(HostAlive(self._agent.host))
        elif now - self._asked > SILENCE_SECONDS:  # one hello is queued: a second one would count as a return
            self._asked = now
            self._send(self._hello())

    def _hello(self) -> HostHello:
        return HostHello(PROTOCOL, __version__, self._agent.host, self._agent.devices)

    def _receive(self) -> bool:
        """Handle the waiting messages; False after a goodbye."""
        while self._socket.poll(0):
            message = self._decoder.decode(self._socket.recv())
            self._heard = time.monotonic()
            match message:
                case HostWelcome():
                    if not self._welcome:
                        names = ", ".join(device.name for device in self._agent.devices)
                        self._say(f"attached to {self._address.base} with {names}")
                    self._welcome = True
                case HostRefused("unknown"):
                    self._agent.close()  # this is another coordinator: the workers here are not its own
                    self._welcome, self._asked = False, -SILENCE_SECONDS
                case HostRefused(reason):
                    raise EmbedfleetError(reason)
                case Spawn():
                    self._send(self._agent.spawn(message.worker, message.device, message.epoch))
                case Kill():
                    self._agent.kill(message.worker)
                case Goodbye():
                    self._say("the coordinator has ended")
                    return False
        return True

    def _send(self, message: msgspec.Struct) -> None:
        with contextlib.suppress(zmq.Again):  # a full queue: its reader is gone, and a signal must still end us
            self._socket.send(encode(message), zmq.DONTWAIT)


def main() -> int:
    """Attach and serve."""
    guard_standard_error(patient=False)
    raise_file_limit()
    lifeline.hold()
    parser = argparse.ArgumentParser(prog="python -m embedfleet.coordinator.hosts.attached_agent")
    parser.add_argument("--connect", required=True)
    parser.add_argument("--devices")
    parser.add_argument("--patience", type=float, default=60.0)
    options: Any = parser.parse_args()
    try:
        address = channels.parse_address(options.connect, "--connect")
        host = AttachedHost(address, options.devices, options.patience, _say)
        for number in stop_signals():
            signal.signal(number, lambda received, _frame: host.signals.append(received))
        try:
            host.run()
        finally:
            host.close()
    except EmbedfleetError as error:
        _say(str(error))
        return error.exit_code
    return 128 + host.signals[0] if host.signals else 0


def _say(text: str) -> None:
    sys.stderr.write(f"embedfleet worker: {printable(text)}\n")


if __name__ == "__main__":
    sys.exit(main())
