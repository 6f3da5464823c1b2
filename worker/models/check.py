"""Check that the models of a run can be found and used, before a device is leased for them.

    python -m embedfleet.worker.models.check < passes.json

reads a JSON array of PassToCheck and writes a line `{"vector": …, "kind": …, "message": …}` for each pass that is refused;
`kind` is an error class of `errors.py`. The exit code is 2 if any pass is refused, otherwise 0.

It needs no torch and reads no weights, so a model that passes can still fail to load. For a model that is not on this host,
only its settings are fetched from the hub. For a complete pass, only the identity of its model is compared, without the
hub; a missing model is accepted.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_USAGE, EmbedfleetError, ModelError, ProtocolError, SpecMismatch
from ...protocol.process import lifeline
from ...protocol.spec.fingerprint import changed_files
from ...protocol.spec.run_spec import CPU_KINDS, FLAGS, PassSpec
from ...protocol.wire.model_refusal import PassToCheck, Refusal
from .folder_check import check_folder, check_pickled, one_line
from .identity import identity
from .kind_check import M3_HEADS, is_convertible
from .locate import HUB_SECONDS, find_local, hub_errors
from .onnx_graph import check_listed, find_graph, find_path
from .parts import ADAPTER, ROUTERS, named_modules, parts_of
from .settings_check import check_parts, settings_files


def refusals(passes: Iterable[PassSpec]) -> list[Refusal]:
    """The passes that are refused, in their order."""
    found: list[Refusal] = []
    for spec in passes:
        try:
            if not isinstance(spec, PassToCheck) or not spec.whole:
                check_model(spec)
            if isinstance(spec, PassToCheck) and spec.files:
                check_identity(spec, spec.files)
        except EmbedfleetError as error:
            found.append(Refusal(spec.vector, type(error).__name__, f"{FLAGS[spec.kind]}: {one_line(error)}"))
    return found


def check_model(spec: PassSpec) -> None:
    """Raise ModelError with a remedy if the pass's model is missing, not trusted, damaged, or of another kind."""
    if spec.model.startswith("fake:") or spec.kind in CPU_KINDS:
        return
    files, hub = find_local(spec)
    if files is None:
        _check_hub(hub, spec)
        return
    check_folder(files.folder, files.name, spec)
    if not _needs_graph(spec):
        return
    if find_path(files.folder) is None and files.revision:
        with hub_errors(hub, files.revision, "its ONNX graph is "):
            names = _hub_files(hub, files.revision)[1]
        check_listed(hub, names)
    else:
        find_graph(files, fetch=False)


def _needs_graph(spec: PassSpec) -> bool:
    """Whether the model's own ONNX graph computes the pass."""
    return spec.backend == "onnx" and is_convertible(spec)


def check_identity(spec: PassSpec, before: Mapping[str, str]) -> None:
    """Raise SpecMismatch if the model on this host is not the one with the identity `before`. A missing model is accepted."""
    try:
        files, _ = find_local(spec, offline=True)
        found = (
            changed_files(before, identity(files.folder, own_code=spec.trust_remote_code)) if files is not None else []
        )
    except (ModelError, OSError, ValueError):  # missing or damaged: the computed vectors stay valid
        return
    if found:
        assert files is not None, "something of it has changed"
        raise SpecMismatch(
            f"model {files.name} has changed since the vectors of {spec.vector} were computed: {', '.join(found[:5])}"
            f"{' and more' if len(found) > 5 else ''} in {files.folder}. Put these files back, give another --out, or "
            "--restart to compute everything anew"
        )


def _check_hub(hub: str, spec: PassSpec) -> None:
    """List the model's files on the hub, and fetch the small ones that show whether it can be used."""
    from huggingface_hub import hf_hub_download

    with hub_errors(hub, spec.revision):
        revision, names = _hub_files(hub, spec.revision)
    if not {"config.json", "modules.json", ADAPTER} & set(names):
        raise ModelError(f"model {hub}: the repository has no config.json; give one of a saved model")
    if not fnmatch.filter(names, "*.safetensors"):
        raise ModelError(
            f"model {hub}: the repository has no safetensors weights. Pickled weights (.bin, .pt) can run code when "
            "loaded and are refused; give a revision that was converted (MODEL@REVISION), or convert them"
        )
    if _needs_graph(spec):
        check_listed(hub, names)
    heads = [f"{head}.pt" for head in M3_HEADS if f"{head}.pt" not in names] if spec.kind == "bge-m3" else []
    if heads:
        raise ModelError(f"model {hub}: the repository has no {heads[0]}, a head that bge-m3 ships; use --dense for it")

    def fetch(wanted: Iterable[str]) -> Path | None:
        """Fetch these files. Returns the snapshot's folder; None if the repository has none of them."""
        folder = None
        with hub_errors(hub, spec.revision):
            for name in (one for one in wanted if one in names):
                path = hf_hub_download(hub, name, revision=revision, etag_timeout=HUB_SECONDS)
                folder = Path(path).parents[name.count("/")]
        return folder

    # The heads of bge-m3 are on the hub (checked above), but not in this folder.
    asked = msgspec.structs.replace(spec, kind="dense", normalize=True) if spec.kind == "bge-m3" else spec
    try:
        folder = fetch(("modules.json",)) or fetch(("config.json", ADAPTER))
        assert folder is not None, "one of them is there"
        routers = [one for one in named_modules(folder) or [] if one.name in ROUTERS]
        fetch(path for one in routers for path in one.settings())
        parts = parts_of(folder)
        fetch(settings_files(parts))
        check_parts(folder, hub, asked, parts, names.__contains__)
        check_pickled(folder, hub, parts, names)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {hub}: {one_line(error)}; give another revision (MODEL@REVISION)") from error


def _hub_files(hub: str, revision: str | None) -> tuple[str | None, list[str]]:
    """The commit of a revision on the hub, and the paths of its files."""
    from huggingface_hub import HfApi

    about = HfApi().model_info(hub, revision=revision, timeout=HUB_SECONDS)
    return about.sha or revision, [one.rfilename for one in about.siblings or []]


def main() -> int:
    """Check the passes on standard input. Returns the exit code, which for invalid input is that of ProtocolError."""
    lifeline.hold()
    try:
        passes = msgspec.json.decode(sys.stdin.buffer.read(), type=list[PassToCheck])
    except (msgspec.MsgspecError, RecursionError) as error:
        sys.stderr.write(f"standard input is no JSON array of passes: {error}\n")
        return ProtocolError.exit_code
    found = refusals(passes)
    for one in found:
        sys.stdout.buffer.write(msgspec.json.encode(one) + b"\n")
    return EXIT_USAGE if found else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
