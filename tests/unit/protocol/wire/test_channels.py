"""Addresses, the folder of sockets, and the bounds that every socket has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.wire import channels
from embedfleet.protocol.wire.channels import IPC_PATH_LIMIT, Address, parse_address


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


def test_ipc_links_are_sockets_in_one_folder() -> None:
    address = parse_address("ipc:///run/fleet", "--bind")
    assert address == Address("ipc:///run/fleet")
    assert address.folder == Path("/run/fleet")
    assert address.control == "ipc:///run/fleet/control"
    assert address.hosts == "ipc:///run/fleet/hosts"
    assert address.work == "ipc:///run/fleet/work"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
def test_tcp_links_are_ports_in_a_row(host: str) -> None:
    address = parse_address(f"tcp://{host}:5000", "--bind")
    assert address.folder is None
    assert address.control == f"tcp://{host}:5000"
    assert address.hosts == f"tcp://{host}:5001"
    assert address.work == f"tcp://{host}:5002"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ipc://relative/folder", "absolute folder"),
        ("ipc://", "absolute folder"),
        ("ipc:///" + "x" * 107, "choose a shorter folder"),
        ("tcp://127.0.0.1", "give a port"),
        ("tcp://127.0.0.1:0", "give a port"),
        ("tcp://127.0.0.1:65534", "give a port"),
        ("tcp://127.0.0.1:http", "give a port"),
        ("tcp://127.0.0.1:-1", "give a port"),
        ("tcp://0.0.0.0:5000", "this machine only"),
        ("tcp://*:5000", "this machine only"),
        ("tcp://10.0.0.1:5000", "this machine only"),
        ("tcp://example.org:5000", "this machine only"),
        ("tcp://:5000", "this machine only"),
        ("http://127.0.0.1:5000", "give ipc"),
        ("/run/fleet", "give ipc"),
        ("", "give ipc"),
    ],
)
def test_other_addresses_are_refused_by_flag(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_address(text, "--connect")
    assert str(caught.value).startswith(f"--connect {text}")


def test_the_limit_counts_the_bytes_of_the_longest_socket() -> None:
    folder = "/" + "é" * ((IPC_PATH_LIMIT - len("//export-100")) // 2)
    parse_address(f"ipc://{folder}", "--bind")
    with pytest.raises(UsageError, match=r"has 10[89] bytes, the system allows 107"):
        parse_address(f"ipc://{folder}é", "--bind")


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.DEALER, zmq.PAIR])
def test_every_socket_is_bounded(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> None:
    with channels.tune(context.socket(kind)) as socket:
        assert socket.getsockopt(zmq.MAXMSGSIZE) == channels.MAX_FRAME_BYTES
        assert socket.getsockopt(zmq.SNDHWM) == channels.HIGH_WATER
        assert socket.getsockopt(zmq.RCVHWM) == channels.HIGH_WATER
        assert socket.getsockopt(zmq.HANDSHAKE_IVL) == channels.HANDSHAKE_MS
        assert socket.getsockopt(zmq.LINGER) == 0


def test_a_router_says_so_when_a_peer_is_gone(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with channels.bind(context, zmq.ROUTER, "inproc://here") as router:
        with pytest.raises(zmq.ZMQError, match="Host unreachable"):
            router.send_multipart([b"nobody", b"hello"])


def test_a_taken_address_is_a_usage_error(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with channels.tune(context.socket(zmq.ROUTER)) as first:
        port = first.bind_to_random_port("tcp://127.0.0.1")
        with pytest.raises(UsageError, match=f"cannot listen on tcp://127.0.0.1:{port}: Address already in use"):
            channels.bind(context, zmq.ROUTER, f"tcp://127.0.0.1:{port}")


def test_a_dealer_is_known_by_the_identity_that_it_chose(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with channels.bind(context, zmq.ROUTER, "inproc://here") as router:
        with channels.connect(context, "inproc://here", b"w7") as dealer:
            dealer.send(b"hello")
            assert router.poll(5_000)
            assert router.recv_multipart() == [b"w7", b"hello"]
