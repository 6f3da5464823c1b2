"""Ask models about texts, each in a child process: the client itself loads none.

A child is `python -m embedfleet.worker.query`. It reads a QueryRequest from stdin and writes a QueryAnswer to stdout.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

import msgspec

from ...protocol.errors import EmbedfleetError, UsageError, error_from_name
from ...protocol.process.child import ChildProcess
from ...protocol.run_directory.records.passes import PassRecord
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.query import QueryAnswer

TIMEOUT = 120.0
"""Default of `--timeout`: seconds for all children together, model loading included."""

MODULE = "embedfleet.worker.query"
MOST_TAIL = 2_000
"""Most characters of a child's standard error in a message."""


def request(pass_: PassSpec, fingerprint: PassRecord | None, texts: Sequence[str]) -> bytes:
    """Encode a QueryRequest. The child checks its model against `fingerprint`, from `pass.json`."""
    return msgspec.json.encode({"pass": pass_, "fingerprint": fingerprint, "texts": list(texts)})


def ask(requests: Mapping[str, bytes], timeout: float) -> dict[str, QueryAnswer | EmbedfleetError]:
    """Run one child for each request, all at once. Return each answer or error, by vector. No child outlives the call.

    UsageError for a model that cannot be used.
    """
    answers: dict[str, QueryAnswer | EmbedfleetError] = {}
    with ExitStack() as stack:
        deadline = time.monotonic() + timeout
        children = {vector: stack.enter_context(_started(one)) for vector, one in requests.items()}
        for vector, (child, output) in children.items():
            try:
                if child.wait(max(0.0, deadline - time.monotonic())) is None:
                    raise EmbedfleetError(
                        f"{vector}: no answer after {timeout:g} s; where the model needs longer, give --timeout SECONDS"
                        f"{_last_words(child)}"
                    )
                answers[vector] = _read(vector, child, output)
            except UsageError:
                raise
            except EmbedfleetError as error:
                answers[vector] = error
    return answers


@contextmanager
def _started(question: bytes) -> Generator[tuple[ChildProcess, IO[bytes]]]:
    """Start a child that reads `question`; yield it and the file of its answer. A full pipe would block."""
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as output:
        asked.write(question)
        asked.seek(0)
        child = ChildProcess(MODULE, [], stdin=asked, stdout=output)
        try:
            yield child, output
        finally:
            child.close()


def _read(vector: str, child: ChildProcess, output: IO[bytes]) -> QueryAnswer:
    output.seek(0)
    raw = output.read().strip()
    try:
        answer = msgspec.json.decode(raw, type=QueryAnswer)
    except msgspec.MsgspecError as error:
        what = f"answered what is no query vector ({error})" if raw else f"ended with status {child.exit_code()}"
        raise EmbedfleetError(f"{vector}: the query encoder {what}{_last_words(child)}") from None
    if answer.error is not None:
        raise error_from_name(answer.error.kind, answer.error.message)
    return answer


def _last_words(child: ChildProcess) -> str:
    """The end of what the child wrote to stderr, as lines to append to a message."""
    text = child.tail()[-MOST_TAIL:].strip()
    return f"; its last words:\n{text}" if text else "; it wrote nothing"
