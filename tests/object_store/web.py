"""A web server on loopback: files with ranges and conditions, and what the file system of the hub asks for."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class WebServer:
    """Serves `files` by path. `cut` answers to GET are half their length; without `ranges` all of a file is sent."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.data_sets: dict[str, dict[str, bytes]] = {}
        """By `OWNER/NAME`: files by path."""
        self.cut, self.ranges, self.tags = 0, True, True
        self.requests: list[tuple[str, str, str]] = []
        """Method, path, Authorization."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        parts = urlsplit(handler.path)
        path = unquote(parts.path)
        self.requests.append((handler.command, path, handler.headers.get("Authorization") or ""))
        if path.startswith("/api/datasets/"):
            status, found = self._api(path.removeprefix("/api/datasets/"), body)
            headers = {} if status == 200 else {"X-Error-Code": found, "X-Error-Message": found}
            content = json.dumps(found if status == 200 else {"error": found}).encode()
            return self._send(handler, status, content, {"Content-Type": "application/json", **headers})
        assert parse_qs(parts.query) == {}
        content = self._resolved(path) if "/resolve/" in path else self.files.get(path)
        if content is None:
            return self._send(handler, 404, b"", {})
        return self._file(handler, content)

    def _file(self, handler: Any, content: bytes) -> None:
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = {"Accept-Ranges": "bytes"} | ({"ETag": tag} if self.tags else {})
        wanted = handler.headers.get("If-Match")
        if wanted is not None and self.tags and wanted != tag:
            return self._send(handler, 412, b"", headers)
        found = _RANGE.fullmatch(handler.headers.get("Range") or "")
        if found is None or not self.ranges:
            return self._send(handler, 200, content, headers)
        start, end = int(found[1]), min(int(found[2] or len(content)) + 1, len(content))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self._send(handler, 206, content[start:end], headers)

    def _send(self, handler: Any, status: int, content: bytes, headers: dict[str, str]) -> None:
        handler.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        cut = self.cut > 0 and status in (200, 206) and handler.command == "GET" and len(content) > 1000
        if cut:
            self.cut -= 1
            handler.close_connection = True
        if handler.command != "HEAD":
            handler.wfile.write(content[: len(content) // 2] if cut else content)

    def _api(self, path: str, body: bytes) -> tuple[int, Any]:
        owner, name, *rest = path.split("/")
        files = self.data_sets.get(f"{owner}/{name}")
        if files is None:
            return 401, "RepoNotFound"
        if not rest or rest[0] == "revision":
            if len(rest) > 1 and rest[1] not in ("main", COMMIT, "v1"):
                return 404, "RevisionNotFound"
            return 200, {"id": f"{owner}/{name}", "sha": COMMIT, "private": False, "gated": False, "siblings": []}
        if rest[0] == "tree":
            below = "/".join(rest[2:])
            entries = [_entry(one, data) for one, data in files.items() if one.startswith(f"{below}/".lstrip("/"))]
            return (200, entries) if entries else (404, "EntryNotFound")
        asked = json.loads(body)["paths"] if body[:1] == b"{" else []
        return 200, [_entry(one, data) for one, data in files.items() if one in asked]

    def _resolved(self, path: str) -> bytes | None:
        found = re.fullmatch(rf"/datasets/([^/]+/[^/]+)/resolve/{COMMIT}/(.*)", path)
        return self.data_sets.get(found[1], {}).get(found[2]) if found else None


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
