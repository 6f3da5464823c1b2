"""The server: started on a free port of loopback, and stopped in any case."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc as rpc
from qdrant_client import grpc

from .services import Collections, Points, Store

HOST = "127.0.0.1"


class NeedsKey(rpc.ServerInterceptor):
    """Refuses requests without the key, in Qdrant's words."""

    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if ("api-key", self._key) in handler_call_details.invocation_metadata:
            return continuation(handler_call_details)

        def refuse(_request: Any, context: rpc.ServicerContext) -> Any:
            context.abort(rpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")

        return rpc.unary_unary_rpc_method_handler(refuse)


class QdrantServer(Store):
    """A store that listens on `port`."""

    port = 0

    def times(self, method: str) -> int:
        """How often a method was asked for."""
        return sum(one == method for one, _ in self.asked)


@contextmanager
def serving(key: str | None = None, most_bytes: int | None = None) -> Generator[QdrantServer]:
    """A server, which asks for `key` if there is one. `most_bytes` is the limit of gRPC itself on a request."""
    store = QdrantServer()
    options = [("grpc.max_receive_message_length", -1 if most_bytes is None else most_bytes), ("grpc.so_reuseport", 0)]
    with ThreadPoolExecutor(8, "qdrant") as threads:
        server = rpc.server(threads, interceptors=[NeedsKey(key)] if key else [], options=options)
        grpc.add_CollectionsServicer_to_server(Collections(store), server)
        grpc.add_PointsServicer_to_server(Points(store), server)
        store.port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        try:
            yield store
        finally:
            server.stop(0).wait()
