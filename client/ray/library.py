"""Ray, imported late, and the cluster that a run joins."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ...protocol.errors import UsageError
from ...protocol.process.stop_signals import STOP_SIGNALS

START = "start one with `ray start --head`, or name one with --ray-address HOST:PORT"
NAMESPACE = "embedfleet"
PATIENCE_SECONDS = 10.0
"""How long an address may take to answer."""


def load_ray() -> Any:
    """The library. UsageError where it is not installed. Handlers of signals stay as they are: Ray would set its own."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS} if main else {}
    try:
        return import_module("ray")
    except ImportError as error:
        raise UsageError(f"--on ray needs Ray ({error}): pip install 'embedfleet[ray]'") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def joined(address: str | None) -> Generator[Any]:
    """Connect to the cluster of this host, or to the one at `address`, for this block. Gives the library.

    UsageError where there is none, or it runs other versions of Ray or Python.
    """
    ray = load_ray()
    if address is not None:
        _check_address(address)
    try:
        ray.init(address=address or "auto", namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        where = f"--ray-address {address}: no cluster answers there" if address else "no Ray cluster at hand"
        raise UsageError(f"{where} ({_first_line(error)}); {START}") from None
    except (RuntimeError, ValueError) as error:  # other versions; a process that is a part of no cluster
        flag = f"--ray-address {address}" if address else "--on ray"
        raise UsageError(f"{flag}: the cluster cannot be joined: {' '.join(str(error).split())}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise UsageError unless something listens there: Ray itself would try for minutes."""
    if address.startswith("ray://"):
        raise UsageError(
            f"--ray-address {address}: the command reads and writes --out too, so it runs on a host of the cluster; "
            "give HOST:PORT there, or have it run there by `ray job submit`"
        )
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65_536):
        raise UsageError(
            f"--ray-address {address}: give HOST:PORT, as in 10.0.0.1:6379, or leave it out for the cluster at hand"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"--ray-address {address}: nothing answers there ({error.strerror or error}); {START}"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
