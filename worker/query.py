"""`python -m embedfleet.worker.query`: encode queries for searches, or score pairs; it holds one model at a time.

Each line of standard input is a QueryRequest; each gets one line on standard output, a QueryAnswer. The model of a request is
kept for the next one. The process ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable

import msgspec

from ..protocol.errors import EmbedfleetError
from ..protocol.process import lifeline
from ..protocol.spec.fingerprint import Fingerprint
from ..protocol.spec.run_spec import PassSpec
from ..protocol.wire.query import QueryAnswer, QueryFailure, QueryRequest
from .encoders.base import OutOfMemory
from .query_model import QueryModel


class QueryService:
    """Answers requests, and keeps the model of the last request loaded."""

    def __init__(self) -> None:
        self._asked: tuple[PassSpec, Fingerprint | None] | None = None
        self._model: QueryModel | None = None

    def answer(self, request: QueryRequest) -> QueryAnswer:
        """The queries' vectors, or scores of pairs. ModelError if the model cannot be used, or is not that of the run."""
        began = time.monotonic()
        model = self._load(request)
        loaded = time.monotonic()
        found = model.answer(request.texts)
        return msgspec.structs.replace(
            found,
            number=request.number,
            load_seconds=loaded - began,
            encode_seconds=time.monotonic() - loaded,
        )

    def reply(self, line: bytes) -> bytes:
        """The reply to a request. Every failure becomes a one-line error in it."""
        model, number = "the query encoder", 0
        try:
            request = msgspec.json.decode(line, type=QueryRequest)
            model, number = f"model {request.spec.model}", request.number
            return msgspec.json.encode(self.answer(request))
        except (EmbedfleetError, msgspec.MsgspecError) as error:
            return _failure(number, type(error).__name__, str(error))
        except (OutOfMemory, MemoryError) as error:
            return _failure(number, "EmbedfleetError", f"{model}: no memory to compute with it ({_summary(error)})")
        except Exception as error:  # noqa: BLE001 - whatever a model's own code or files can raise
            return _failure(number, "EmbedfleetError", f"{model} failed: {type(error).__name__}: {_summary(error)}")

    def _load(self, request: QueryRequest) -> QueryModel:
        asked = (request.spec, request.fingerprint)
        if self._model is None or self._asked != asked:
            self._model = None  # before the next one is loaded: two may not fit
            self._model = QueryModel(*asked)
            self._asked = asked
        return self._model


def _failure(number: int, kind: str, message: str) -> bytes:
    return msgspec.json.encode(QueryAnswer(number=number, error=QueryFailure(kind, message)))


def _summary(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:500]


def serve(requests: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """Answer request after request."""
    service = QueryService()
    for line in requests:
        write(service.reply(line) + b"\n")


def main() -> None:
    """Serve the requests on standard input. What a model prints goes to standard error."""
    lifeline.hold()
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)

        def send(line: bytes) -> None:
            output.write(line)
            output.flush()

        serve(sys.stdin.buffer, send)
    os._exit(0)


if __name__ == "__main__":
    main()
