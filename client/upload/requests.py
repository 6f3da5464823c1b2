"""Requests about one collection, repeated while the server is away or busy; from any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .errors import classify_error, foreign_errors, server_errors
from .retry import with_retries

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

T = TypeVar("T")

RESUME = "; once it does, the same command sends what is missing"
"""The remedy where a server went away."""


class Requests:
    """Sends requests about `collection` through `client`. After `stop`, no thread retries."""

    def __init__(self, client: QdrantClient, collection: str) -> None:
        self.client, self.collection = client, collection
        self._stop = threading.Event()

    def ask(self, work: Callable[[], T]) -> T:
        """The result of a request that is safe to repeat; EmbedfleetError if it fails."""
        with server_errors(self.collection, RESUME):
            return self.repeat(work)

    def repeat(self, work: Callable[[], T], passing: Callable[[BaseException], bool] | None = None) -> T:
        """The result of `work`, retried while its error is `passing` (default: the server is away or busy). Raises the last
        error unchanged."""
        return with_retries(work, passing or is_passing, self._stop)

    def answers(self) -> bool:
        """Whether the server answers a small request."""
        try:
            self.client.collection_exists(self.collection)
        except foreign_errors():
            return False
        return True

    def stop(self) -> None:
        """Stop retrying, in every thread."""
        self._stop.set()


def is_passing(error: BaseException) -> bool:
    """Whether the server is away or busy."""
    return isinstance(error, foreign_errors()) and classify_error(error) in ("away", "busy")


def is_away(error: BaseException) -> bool:
    """Whether no server answered."""
    return isinstance(error, foreign_errors()) and classify_error(error) == "away"
