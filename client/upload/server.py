"""Connect to a Qdrant server."""

from __future__ import annotations

import os
import re
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...protocol.errors import UsageError
from .errors import server_errors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

TIMEOUT = 60
"""Seconds for one request."""

GRPC_PORT = 6334


def connect(url: str, api_key_env: str | None = None, *, grpc: bool = True, grpc_port: int = GRPC_PORT) -> QdrantClient:
    """A client of the server at `url`, once the server has accepted the key.

    UsageError for an unusable URL, variable or key, or if qdrant-client or tenacity is missing; Unreachable if no server
    answers.
    """
    _check_url(url)
    key = _key(api_key_env)
    if any(find_spec(name) is None for name in ("qdrant_client", "tenacity")):
        raise UsageError("uploading needs qdrant-client and tenacity: pip install 'embedfleet[qdrant]'")
    from qdrant_client import QdrantClient

    with warnings.catch_warnings():
        # A user who names an http:// URL and a key has decided so; it is usual in a private network.
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection", category=UserWarning)
        client = QdrantClient(
            url=url, api_key=key, prefer_grpc=grpc, grpc_port=grpc_port, timeout=TIMEOUT, check_compatibility=False
        )
    where = f"--url {without_secret(url)}" + (f" (gRPC on port {grpc_port})" if grpc else "")
    remedy = "; start it, correct the address, or " + (
        "say where it listens for gRPC with --grpc-port, or use REST with --no-grpc" if grpc else "use gRPC with --grpc"
    )
    try:
        with server_errors(where, remedy):
            client.get_collections()  # needs a key, unlike the server's greeting
    except BaseException:
        client.close()
        raise
    return client


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            f"--url {without_secret(url)}: give the address of a Qdrant server, as in http://localhost:6333"
        )


def without_secret(url: str) -> str:
    """The URL without user name and password, for messages."""
    return re.sub(r"//[^/@]*@", "//", url)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"--api-key-env {variable}: the variable is not set; export it with the server's API key")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"--api-key-env {variable}: the key has signs that no header can carry; export it anew")
    return key
