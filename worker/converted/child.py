"""Make a conversion in a child process, while holding the lock of that conversion."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_USAGE, ModelError, describe_exit
from ...protocol.process.child import ChildProcess, error_text
from ...protocol.spec.run_spec import PassSpec
from ..models.locate import ModelFiles
from .cache import LOCK_SECONDS, Conversions, cannot_store
from .engines.versions import engine_of
from .record import ConvertRequest, Done

MODULE = "embedfleet.worker.converted.convert"
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class Refusal(ModelError):
    """The model cannot be converted, for the reason in the text."""


def make_conversion(conversions: Conversions, key: str, spec: PassSpec, files: ModelFiles, threads: int) -> Path:
    """The folder of a conversion, made if it is not there. ModelError, whose text is the reason alone, if it cannot be made."""
    try:
        with conversions.locked(key):
            found = conversions.find(key)  # another process may have made it meanwhile
            if found is None:
                conversions.clear(key)
                run_child(conversions, key, spec, files, threads)
                found = conversions.find(key)
    except TimeoutError as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(cannot_store(conversions.folder, error)) from error
    return usable(found)


def usable(found: Path | Done | None) -> Path:
    """The folder that was found. Refusal if it was refused, ModelError if there is none."""
    if isinstance(found, Path):
        return found
    if found is None:
        raise ModelError("the conversion was damaged as it was written; try again")
    raise Refusal(found.refused)


def request_of(conversions: Conversions, key: str, spec: PassSpec, files: ModelFiles, threads: int) -> ConvertRequest:
    """The request to the child: the model, without the options of the pass."""
    bare = PassSpec(
        vector=spec.vector,
        kind=spec.kind,
        model=spec.model,
        trust_remote_code=spec.trust_remote_code,
        normalize=True,
        dtype="float32",
        backend=engine_of(spec),
    )
    named = (str(files.folder), files.name, files.revision)
    return ConvertRequest(spec=bare, files=named, key=key, folder=str(conversions.folder), threads=threads)


def run_child(conversions: Conversions, key: str, spec: PassSpec, files: ModelFiles, threads: int) -> None:
    """Let a child process store the conversion or its refusal. ModelError if it does not; a crash is stored as a refusal."""
    request = request_of(conversions, key, spec, files, threads)
    child = ChildProcess(MODULE, [msgspec.json.encode(request).decode()], environment=OFFLINE)
    try:
        code = child.wait(LOCK_SECONDS)
        if code == EXIT_DONE:
            return
        if code is None:
            child.close()  # it would go on writing
        conversions.clear(key)
        if code == EXIT_USAGE:
            raise ModelError(error_text(child.tail()))
        reason = "the conversion took too long"
        if code is not None:
            how = "was" if code < 0 else "ended with"
            reason = f"the conversion {how} {describe_exit(code)}: {_last_line(child.tail())}"
        if code == -signal.SIGKILL:
            reason = "the conversion was killed, as the kernel does where memory runs out; another run tries again"
        elif code is not None:
            reason += f" (remove {conversions.folder / key} to try again)"
            conversions.refuse(key, reason)
        raise ModelError(reason)
    finally:
        child.close()


def _last_line(tail: str) -> str:
    return (tail.splitlines() or ["it printed nothing"])[-1][:300]
