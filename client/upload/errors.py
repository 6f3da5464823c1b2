"""Map the errors of a Qdrant server, and of the connection to it, to this package's errors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from json import JSONDecodeError
from typing import Any, Literal

from ...protocol.errors import EmbedfleetError, Unreachable, UsageError

ErrorClass = Literal["key", "away", "busy", "refused"]
"""The key is not accepted; no server answers; the server is busy, try again later; the request itself is wrong."""

_STATUS: dict[int, ErrorClass] = {401: "key", 403: "key", 408: "busy", 429: "busy"}

_GRPC: dict[str, ErrorClass] = {
    "UNAUTHENTICATED": "key",
    "PERMISSION_DENIED": "key",
    "UNAVAILABLE": "away",
    "DEADLINE_EXCEEDED": "away",
    "RESOURCE_EXHAUSTED": "busy",
    "ABORTED": "busy",
    "INTERNAL": "busy",
}


_TOO_LARGE = (
    "larger than allowed",
    "payload too large",
    "larger than max",
    "message length too large",
    "request entity too large",
)


def foreign_errors() -> tuple[type[Exception], ...]:
    """The errors of qdrant-client: over gRPC and REST, of the in-memory engine (ValueError), and for an answer without a
    result (AssertionError)."""
    import grpc
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    return (grpc.RpcError, QdrantException, ApiException, ValueError, AssertionError)


def classify_error(error: Exception) -> ErrorClass:
    """The class of an error of `foreign_errors`."""
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, UnexpectedResponse):
        if _is_foreign(error):
            return "away"
        status = error.status_code or 0
        return "busy" if status >= 500 else _STATUS.get(status, "refused")
    if isinstance(error, ResponseHandlingException) or _is_foreign(error):
        return "away"
    if isinstance(error, ResourceExhaustedResponse):
        return "busy"
    return _GRPC.get(_grpc_code(error), "refused")


def too_large(error: Exception) -> bool:
    """Whether the server refuses a request as too large: status 413, or an error text of its web framework or of gRPC."""
    from qdrant_client.http.exceptions import UnexpectedResponse

    if isinstance(error, UnexpectedResponse) and error.status_code == 413:
        return True
    words = f"{_describe(error)} {getattr(error, 'content', '')}".lower()
    return any(one in words for one in _TOO_LARGE)


@contextmanager
def server_errors(where: str, remedy: str = "") -> Generator[None]:
    """Raise UsageError for a key that is not accepted, Unreachable if no server answers, else EmbedfleetError."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, foreign_errors()):
            raise
        match classify_error(error):
            case "key":
                raise UsageError(
                    f"{where}: the server does not accept the API key ({_describe(error)}); "
                    "name the variable that holds it with --api-key-env"
                ) from error
            case "away":
                raise Unreachable(f"{where}: no Qdrant server answers ({_describe(error)}){remedy}") from error
            case "busy":
                raise EmbedfleetError(
                    f"{where}: the server stayed busy ({_describe(error)}); run the same command again later"
                ) from error
            case "refused":
                raise EmbedfleetError(f"{where}: the server refused ({_describe(error)})") from error


def _grpc_code(error: Any) -> str:
    """The name of a gRPC status; empty for any other error."""
    return str(error.code().name) if callable(getattr(error, "code", None)) else ""


def _is_foreign(error: Exception) -> bool:
    """Whether a server other than Qdrant answered. Qdrant answers in JSON with a result, or with a status alone."""
    content: Any = getattr(error, "content", b"")
    page = isinstance(content, bytes) and content.lstrip()[:1] == b"<"
    return page or isinstance(error, (JSONDecodeError, AssertionError))


def _describe(error: Exception) -> str:
    if _is_foreign(error):
        return "another server does, and not as a Qdrant would"
    details: Any = getattr(error, "details", None)
    if callable(details):
        return str(details())
    return " ".join(str(getattr(error, "source", error)).split())
