"""Fetch the files of a model that a run would fetch, and check them as a run does.

    python -m embedfleet.worker.hub.pull MODEL [REVISION]

writes one line of JSON: a PulledModel, or a Refusal, whose exit code it ends with. The hub's client shows the progress on
standard error. No code of the model is run.
"""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_USAGE, EmbedfleetError, ModelError
from ...protocol.host.hub_cache import offline_variable
from ...protocol.process import lifeline
from ...protocol.spec import catalog
from ...protocol.spec.known_models import possible_kinds
from ...protocol.spec.run_spec import FLAGS, Kind, PassSpec
from ...protocol.wire.model_refusal import Refusal
from ...protocol.wire.pulled_model import PulledModel
from ..models.check import check_model
from ..models.folder_check import check_folder
from ..models.locate import WANTED, ModelFiles, fetch, find_local
from ..models.parts import parts_of
from ..models.settings_check import own_code


def pull(model: str, revision: str | None) -> PulledModel:
    """Fetch what is missing of a model. ModelError if the hub lacks it or is out of reach, or if no flag takes the model."""
    kinds, offline = possible_kinds(model), offline_variable()
    spec = PassSpec(vector="pull", kind=kinds[0], model=model, revision=revision, trust_remote_code=True)
    found, hub = find_local(spec, offline=bool(offline))
    if not hub:
        raise ModelError(f"model {model!r} is a folder on this host: there is nothing to fetch")
    if found is None and offline:
        raise ModelError(f"model {hub}: not in the hub's cache, and {offline} forbids to fetch it; unset the variable")
    if found is not None and (offline or not found.revision or _is_usable(found, spec, kinds)):
        return _pulled(found, spec, kinds, fetched=False)
    if found is None and catalog.find(model) is not None:
        check_model(spec)  # its kind is known: what is wrong with it shows before the weights are fetched
    sys.stderr.write(f"embedfleet: fetching {hub}\n")
    return _pulled(fetch(spec, hub), spec, kinds, fetched=True)


def _is_usable(files: ModelFiles, spec: PassSpec, kinds: tuple[Kind, ...]) -> bool:
    try:
        _flags(files, spec, kinds)
    except ModelError:
        return False
    return True


def _pulled(files: ModelFiles, spec: PassSpec, kinds: tuple[Kind, ...], *, fetched: bool) -> PulledModel:
    flags, remote_code = _flags(files, spec, kinds)
    paths = [path for path in files.folder.rglob("*") if path.is_file() and _is_wanted(path)]
    return PulledModel(
        name=files.name,
        revision=files.revision,
        folder=str(files.folder),
        bytes=sum(path.stat().st_size for path in paths),
        fetched=fetched,
        flags=flags,
        remote_code=remote_code,
    )


def _flags(files: ModelFiles, spec: PassSpec, kinds: tuple[Kind, ...]) -> tuple[tuple[str, ...], bool]:
    """The flags that take the model, and whether it needs --trust-remote-code. ModelError if none does."""
    trusted = _brings_code(files)
    changes = {"trust_remote_code": trusted, "normalize": True}
    refused: dict[Kind, ModelError | None] = {
        kind: _refusal(files, msgspec.structs.replace(spec, kind=kind, **changes)) for kind in kinds
    }
    taken: list[Kind] = [kind for kind, error in refused.items() if error is None]
    errors = [error for kind, error in refused.items() if error is not None and kind != "bge-m3"]
    if not taken:
        # Kinds that the model was not made for say only that.
        raise next((one for one in errors if not str(one).startswith(f"model {files.name} is no ")), errors[0])
    return tuple(FLAGS[kind] for kind in taken), trusted


def _brings_code(files: ModelFiles) -> bool:
    try:
        return bool(own_code(files.folder, parts_of(files.folder)))
    except (OSError, ValueError):  # damaged: the check of the folder says so
        return False


def _refusal(files: ModelFiles, spec: PassSpec) -> ModelError | None:
    try:
        check_folder(files.folder, files.name, spec)
    except ModelError as error:
        return error
    return None


def _is_wanted(path: Path) -> bool:
    return any(fnmatchcase(path.name, pattern) for pattern in WANTED)


def main() -> int:
    """Fetch the model that the arguments name."""
    lifeline.hold()
    if not 2 <= len(sys.argv) <= 3:
        sys.stderr.write("usage: python -m embedfleet.worker.hub.pull MODEL [REVISION]\n")
        return EXIT_USAGE
    model, revision = sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None
    try:
        answer: msgspec.Struct = pull(model, revision)
        code = EXIT_DONE
    except EmbedfleetError as error:
        answer, code = Refusal(model, type(error).__name__, str(error)), error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
