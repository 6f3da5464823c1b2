"""The bound on connections, on a real socket of libzmq."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from embedfleet.coordinator.hosts.connection_cap import ConnectionCap

MOST = 2


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Any]:
    context = zmq.Context()
    found = context.socket(zmq.ROUTER)
    found.bind(f"ipc://{tmp_path}/socket")
    yield found
    context.destroy(linger=0)


def connect(path: Path) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(10)
    found.connect(str(path))
    return found


def ended(one: socket.socket) -> bool:
    """Whether the other side has shut it, once its greeting was read."""
    try:
        while one.recv(64):
            one.settimeout(0.5)
    except TimeoutError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_what_is_beyond_the_bound_is_shut_also_where_no_descriptor_is_left(listening: Any, tmp_path: Path) -> None:
    cap = ConnectionCap(listening, MOST)
    strangers = [connect(tmp_path / "socket") for _ in range(5)]
    for one in strangers:
        assert one.recv(1), "libzmq has it"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        assert cap.monitor.poll(10_000)
        cap.enforce()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cap.refused == 5 - MOST
    assert [ended(one) for one in strangers] == [False] * MOST + [True] * (5 - MOST)
    for one in strangers:
        one.close()
    cap.close()
