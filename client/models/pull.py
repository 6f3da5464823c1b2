"""Fetch a model, in a process with the hub's client."""

from __future__ import annotations

import sys
import tempfile

import msgspec

from ...protocol.errors import EXIT_DONE, EmbedfleetError, UsageError, describe_exit, error_from_name
from ...protocol.process.child import ChildProcess
from ...protocol.wire.model_refusal import Refusal
from ...protocol.wire.pulled_model import PulledModel
from ..arguments import check_text

WAIT_SECONDS = 3600.0
"""A download may take longer: it is waited for again."""


def pull(argument: str) -> PulledModel:
    """Fetch what is missing of `MODEL` or `MODEL@REVISION`, an alias or a hub id. The progress is on standard error.

    Raises ModelError as a run does, UsageError for a name that is none.
    """
    check_text(argument, "MODEL")
    model, _, revision = argument.partition("@")
    if not model.strip() or model.startswith("-"):
        raise UsageError(f"MODEL {argument!r}: give an alias (see `embedfleet models`) or a hub id (owner/name)")
    if model.startswith("fake:") or model in ("bm25", "metadata"):
        raise UsageError(f"MODEL {argument!r}: needs no files; give the name of a model that has weights")
    quiet: dict[str, str] = {} if sys.stderr.isatty() else {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with tempfile.TemporaryFile() as answer:
        process = ChildProcess(
            "embedfleet.worker.hub.pull",
            [model, *([revision] if revision else [])],
            environment=quiet,
            stdout=answer,
            quiet=False,
        )
        try:
            while (code := process.wait(WAIT_SECONDS)) is None:
                pass
        finally:
            process.close()  # also after Ctrl-C: the next call goes on where this one stopped
        answer.seek(0)
        return _result(answer.read(), code, model)


def _result(answer: bytes, code: int, model: str) -> PulledModel:
    try:
        if code == EXIT_DONE:
            return msgspec.json.decode(answer, type=PulledModel)
        refused = msgspec.json.decode(answer, type=Refusal)
    except msgspec.MsgspecError:
        raise EmbedfleetError(f"model {model}: the process that fetches it ended with {describe_exit(code)}") from None
    raise error_from_name(refused.kind, refused.message)
