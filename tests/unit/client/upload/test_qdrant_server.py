from __future__ import annotations

import contextlib
import http.server
import json
import signal
import socket
import threading
from concurrent import futures
from importlib.util import find_spec

import pytest
from embedfleet.client.cli import upload_command
from embedfleet.client.upload import server as qdrant_server
from embedfleet.client.upload.server import connect
from embedfleet.protocol.errors import EmbedfleetError, Unreachable, UsageError

pytest.importorskip("qdrant_client")


@contextlib.contextmanager
def rest_server(status: int, page: bytes = b""):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = page or json.dumps({"status": {"error": "no"}, "time": 0}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def grpc_server(code: str):
    import grpc

    class Refuse(grpc.GenericRpcHandler):
        def service(self, _details):
            return grpc.unary_unary_rpc_method_handler(
                lambda _request, context: context.abort(grpc.StatusCode[code], "Invalid API key or JWT")
            )

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Refuse()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_over_rest(status, monkeypatch):
    monkeypatch.setenv("THE_KEY", "wrong")
    with rest_server(status) as port, pytest.raises(UsageError, match=r"does not accept the API key.*--api-key-env"):
        connect(f"http://127.0.0.1:{port}", "THE_KEY", grpc=False)


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_a_wrong_key_over_grpc(code, monkeypatch):
    monkeypatch.setenv("THE_KEY", "wrong")
    with grpc_server(code) as port, pytest.raises(UsageError, match=r"gRPC on port .*\(Invalid API key or JWT\)"):
        connect("http://127.0.0.1", "THE_KEY", grpc_port=port)


def test_a_missing_server(closed_port):
    with pytest.raises(Unreachable, match=r"no Qdrant server answers .*Connection refused.*start it"):
        connect(f"http://127.0.0.1:{closed_port}", grpc=False)
    with pytest.raises(Unreachable, match=r"no Qdrant server answers .*--grpc-port, or use REST with --no-grpc"):
        connect("http://127.0.0.1", grpc_port=closed_port)


@pytest.mark.parametrize("status", [200, 404, 403, 500])
def test_a_server_of_something_else(status):
    page = b"<!DOCTYPE html>\n<html><body>Nothing matches the given URI</body></html>"
    with rest_server(status, page) as port, pytest.raises(Unreachable, match="no Qdrant server answers") as caught:
        connect(f"http://127.0.0.1:{port}", grpc=False)
    assert "html" not in str(caught.value), "no raw page"


def test_a_server_of_something_else_in_json():
    page = b'{"result": null, "status": "ok", "time": 0}'
    with (
        rest_server(200, page) as port,
        pytest.raises(Unreachable, match=r"no Qdrant server answers \(another server does"),
    ):
        connect(f"http://127.0.0.1:{port}", grpc=False)


@pytest.mark.parametrize(
    "url", ["localhost:6333", "ftp://host", "http://", "http://host:99999", "http://host:port", "http://[::1"]
)
def test_an_address_that_is_none(url):
    with pytest.raises(UsageError, match=r"--url .*as in http://localhost:6333"):
        connect(url)


def test_a_password_in_an_address_is_not_shown(closed_port):
    for url in (f"http://me:secret@127.0.0.1:{closed_port}", "ftp://me:secret@host"):
        with pytest.raises(EmbedfleetError, match=r"--url (http|ftp)://") as caught:
            connect(url, grpc=False)
        assert "secret" not in str(caught.value)


def test_a_key_that_no_header_can_carry(monkeypatch):
    monkeypatch.setenv("THE_KEY", "schlüssel")
    with pytest.raises(UsageError, match="--api-key-env THE_KEY: the key has signs") as caught:
        connect("http://localhost:6333", "THE_KEY")
    assert "schl" not in str(caught.value)


def test_a_key_that_is_not_set(monkeypatch):
    monkeypatch.delenv("THE_KEY", raising=False)
    with pytest.raises(UsageError, match="--api-key-env THE_KEY: the variable is not set"):
        connect("http://localhost:6333", "THE_KEY")


@pytest.mark.parametrize("missing", ["qdrant_client", "tenacity"])
def test_a_package_that_is_missing(monkeypatch, missing):
    monkeypatch.setattr(qdrant_server, "find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(UsageError, match=r"pip install 'embedfleet\[qdrant\]'"):
        connect("http://localhost:6333")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_interrupts_once_so_that_the_index_can_be_switched_on(number):
    before = signal.getsignal(number)
    with upload_command.ending_in_order() as ended:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
    assert ended == [number]
    assert signal.getsignal(number) is before


def test_a_terminal_that_goes_does_not_end_an_upload_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with upload_command.ending_in_order() as ended:
            signal.raise_signal(signal.SIGHUP)
        assert ended == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
