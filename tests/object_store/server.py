"""The S3 server of moto as a process of its own, and buckets in it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .proxy import Fault, FaultyProxy

START_SECONDS = 60.0
_SIGNED = "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


class StoreServer:
    """The server with a proxy in front. `environment` lets commands reach it by way of the proxy."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._await()
        except BaseException:
            self._process.kill()
            raise
        self.proxy = FaultyProxy("127.0.0.1", self.port)
        self.environment = {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "very-secret-key",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        self.proxy.close()
        self._process.kill()
        self._process.wait()

    def make_bucket(self, name: str) -> None:
        assert self._ask("PUT", f"/{name}")[0] == 200

    def put(self, bucket: str, key: str, content: bytes) -> None:
        assert self._ask("PUT", f"/{bucket}/{quote(key)}", content)[0] == 200

    def put_folder(self, bucket: str, prefix: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(bucket, f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def get(self, bucket: str, key: str) -> bytes | None:
        status, content = self._ask("GET", f"/{bucket}/{quote(key)}")
        return content if status == 200 else None

    def delete(self, bucket: str, key: str) -> None:
        self._ask("DELETE", f"/{bucket}/{quote(key)}")

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        import xml.etree.ElementTree as ElementTree

        found: list[str] = []
        token = ""
        while True:
            more = f"&continuation-token={quote(token)}" if token else ""
            _, content = self._ask("GET", f"/{bucket}?list-type=2&prefix={quote(prefix)}{more}")
            root: Any = ElementTree.fromstring(content)
            space = root.tag.partition("}")[0] + "}"
            found += [one.findtext(f"{space}Key") for one in root.iter(f"{space}Contents")]
            token = root.findtext(f"{space}NextContinuationToken") or ""
            if not token:
                return sorted(found)

    def _ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request(method, path, body, {"Authorization": _SIGNED, "Content-Type": "application/octet-stream"})
            answer = link.getresponse()
            return answer.status, answer.read()
        finally:
            link.close()

    def _await(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self._process.poll() is None, "moto ended"
            with contextlib.suppress(OSError):
                self._ask("GET", "/")
                return
            time.sleep(0.1)  # there is nothing to wait on but the port itself
        raise TimeoutError("moto did not start")


class Bucket:
    """A bucket of its own for one test."""

    _count = 0

    def __init__(self, server: StoreServer) -> None:
        Bucket._count += 1
        self._server, self.name = server, f"bucket-{Bucket._count}"
        self.proxy = server.proxy
        self.proxy.faults.clear()
        self.proxy.requests.clear()
        self.proxy.ranges.clear()
        server.make_bucket(self.name)

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> str:
        """Put an object; its address."""
        self._server.put(self.name, key, content)
        return self.url(key)

    def put_folder(self, prefix: str, folder: Path) -> str:
        self._server.put_folder(self.name, prefix, folder)
        return self.url(prefix)

    def get(self, key: str) -> bytes | None:
        return self._server.get(self.name, key)

    def delete(self, key: str) -> None:
        self._server.delete(self.name, key)

    def keys(self, prefix: str = "") -> list[str]:
        return self._server.keys(self.name, prefix)

    def fail(self, *faults: Fault) -> None:
        """Plan faults."""
        self.proxy.faults += faults
