"""An HTTP proxy that forwards requests to one server, and breaks those that a fault names."""

from __future__ import annotations

import http.client
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Kind = Literal["busy", "drop", "late", "cut", "stall", "refuse"]
"""`busy`: 503 SlowDown. `drop`: no answer, nothing forwarded. `late`: forwarded, but the answer is lost. `cut`: half a body.
`stall`: no answer for `seconds`, then forwarded. `refuse`: `status` with `code`."""
_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>planned</Message>{more}</Error>'


@dataclass
class Fault:
    """Breaks the requests of `method` with `part` in their path, `times` of them after the first `skip`."""

    kind: Kind
    method: str
    part: str = ""
    times: int = 1
    skip: int = 0
    status: int = 403
    code: str = "AccessDenied"
    more: str = ""
    seconds: float = 0.0
    seen: int = field(default=0, init=False)

    def takes(self, method: str, path: str) -> bool:
        if method != self.method or self.part not in path:
            return False
        self.seen += 1
        return self.skip < self.seen <= self.skip + self.times


class FaultyProxy:
    """The proxy, in threads of this process. `requests` are (method, path) as they came; `ranges` (path, first byte, byte after
    the last) of the requests for a part of an object."""

    def __init__(self, host: str, port: int) -> None:
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, int, int]] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return lambda: proxy.answer(self)
                raise AttributeError(name)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the tests read `requests`."""

        self._target = host, port
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        method, path = handler.command, handler.path
        with self._lock:
            self.requests.append((method, path))
            if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or ""):
                self.ranges.append((path, int(asked[1]), int(asked[2]) + 1))
            fault = next((one for one in self.faults if one.takes(method, path)), None)
        match fault.kind if fault is not None else None:
            case "busy":
                return _send(handler, 503, _ERROR.format(code="SlowDown", more="").encode())
            case "refuse":
                assert fault is not None
                return _send(handler, fault.status, _ERROR.format(code=fault.code, more=fault.more).encode())
            case "drop":
                return _hang_up(handler)
            case "stall":
                assert fault is not None
                time.sleep(fault.seconds)
            case _:
                pass
        status, headers, content = self._forward(method, path, dict(handler.headers.items()), body)
        if fault is not None and fault.kind == "late":
            return _hang_up(handler)
        _send(handler, status, content, headers, cut=fault is not None and fault.kind == "cut")
        return None

    def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        link = http.client.HTTPConnection(*self._target, timeout=30)
        try:
            link.request(method, path, body, {name: value for name, value in headers.items() if name != "Connection"})
            answer = link.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            link.close()


def _hang_up(handler: Any) -> None:
    handler.close_connection = True


def _send(
    handler: Any, status: int, content: bytes, headers: list[tuple[str, str]] | None = None, *, cut: bool = False
) -> None:
    handler.send_response_only(status)
    left_out = {"connection", "transfer-encoding", "content-length"}
    head = handler.command == "HEAD"
    length = next((value for name, value in headers or [] if head and name.lower() == "content-length"), len(content))
    for name, value in headers or []:
        if name.lower() not in left_out:
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    if not head:
        handler.wfile.write(content[: len(content) // 2] if cut else content)
    if cut:
        handler.close_connection = True
