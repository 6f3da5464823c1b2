"""Ask a child process of a plan, and wait for its answer."""

from __future__ import annotations

import tempfile
from typing import TypeVar

import msgspec

from ...protocol.errors import EmbedfleetError, describe_exit, error_from_name
from ...protocol.planning.model_figures import Refused
from ...protocol.process.child import STEADY_MEMORY, ChildProcess

POLL_SECONDS = 3_600.0

A = TypeVar("A", bound=msgspec.Struct)


def ask(module: str, request: msgspec.Struct, kind: type[A]) -> A:
    """The answer of `python -m MODULE` to a request. Raises the error that it answers with instead."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered:
        asked.write(msgspec.json.encode(request))
        asked.seek(0)
        child = ChildProcess(module, [], environment=STEADY_MEMORY, stdin=asked, stdout=answered)
        try:
            while (code := child.wait(POLL_SECONDS)) is None:
                pass
            tail = child.tail()
        finally:
            child.close()  # an interrupt ends it too
        answered.seek(0)
        raw = answered.read()
    try:
        if code == 0:
            return msgspec.json.decode(raw, type=kind)
        refused = msgspec.json.decode(raw, type=Refused)
    except msgspec.MsgspecError:
        output = " ".join(tail.split())[-300:]
        raise EmbedfleetError(f"{module} ended with {describe_exit(code)}; plan again. {output}".strip()) from None
    raise error_from_name(refused.kind, refused.message)
