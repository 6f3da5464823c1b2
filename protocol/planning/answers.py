"""The protocol of a plan's processes: one JSON object on standard output, the answer or an error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ..errors import EXIT_DONE, EmbedfleetError, ProtocolError
from .model_figures import Refused

Q = TypeVar("Q", bound=msgspec.Struct)


def answer(kind: type[Q], compute: Callable[[Q], msgspec.Struct]) -> int:
    """Read a request of type `kind` from standard input, and write the result of `compute`. Returns the exit code."""
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        sys.stderr.write(f"standard input is no request: {error}\n")
        return ProtocolError.exit_code
    code, found = EXIT_DONE, None
    try:
        found = compute(request)
    except EmbedfleetError as error:
        code, found = error.exit_code, Refused(kind=type(error).__name__, message=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    sys.stdout.buffer.flush()
    return code
