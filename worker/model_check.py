"""Whether the models of a run can be had and used, before a device is leased for them.

    python -m embedfleet.worker.model_check < passes.json

reads a JSON array of PassSpecs and writes a line `{"vector": …, "kind": …, "message": …}` for each pass that is refused;
`kind` is an error class of `errors.py`. It ends with 2 where there is one, with 0 where there is none.

It takes no torch and reads no weight: a pass that goes through can still fail when it is loaded. A model that is not on this
host is looked up on the hub, but not fetched, its settings left aside.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ..protocol import lifeline
from ..protocol.errors import EXIT_DONE, EXIT_USAGE, EmbedfleetError, ModelError, ProtocolError
from ..protocol.model_refusal import Refusal
from ..protocol.spec import CPU_KINDS, FLAGS, PassSpec
from .model_files import HUB_SECONDS, find_local, hub_errors
from .model_folder import SETTINGS, check_folder, check_modules, check_settings, one_line
from .model_kinds import M3_HEADS, module_paths
from .model_texts import PROMPTS


def refusals(passes: Iterable[PassSpec]) -> list[Refusal]:
    """The passes that are refused, in their order."""
    found: list[Refusal] = []
    for spec in passes:
        try:
            check_model(spec)
        except EmbedfleetError as error:
            found.append(Refusal(spec.vector, type(error).__name__, f"{FLAGS[spec.kind]}: {one_line(error)}"))
    return found


def check_model(spec: PassSpec) -> None:
    """ModelError, saying what to do, where the model of a pass is not there, not trusted, damaged, or of another kind."""
    if spec.model.startswith("fake:") or spec.kind in CPU_KINDS:
        return
    files, hub = find_local(spec)
    if files is not None:
        check_folder(files.folder, files.name, spec)
    else:
        _check_hub(hub, spec)


def _check_hub(hub: str, spec: PassSpec) -> None:
    """Ask the hub what it has, and for the small files that tell whether the model is wanted."""
    from huggingface_hub import HfApi, hf_hub_download

    with hub_errors(hub, spec.revision):
        about = HfApi().model_info(hub, revision=spec.revision, timeout=HUB_SECONDS)
        names = [one.rfilename for one in about.siblings or []]
    if "config.json" not in names:
        raise ModelError(f"model {hub}: the repository has no config.json; give one of a saved model")
    if not fnmatch.filter(names, "*.safetensors"):
        raise ModelError(
            f"model {hub}: the repository has no safetensors weights. Pickled weights (.bin, .pt) can run code when "
            "loaded and are refused; give a revision that was converted (MODEL@REVISION), or convert them"
        )
    heads = [f"{head}.pt" for head in M3_HEADS if f"{head}.pt" not in names] if spec.kind == "bge-m3" else []
    if heads:
        raise ModelError(f"model {hub}: the repository has no {heads[0]}, a head that bge-m3 ships; use --dense for it")

    def fetch(wanted: Iterable[str]) -> Path:
        with hub_errors(hub, spec.revision):
            for name in (one for one in wanted if one in names and one != "config.json"):
                hf_hub_download(hub, name, revision=about.sha or spec.revision, etag_timeout=HUB_SECONDS)
            path = hf_hub_download(hub, "config.json", revision=about.sha or spec.revision, etag_timeout=HUB_SECONDS)
        return Path(path).parent

    folder = fetch(("modules.json", PROMPTS, *SETTINGS))
    # The heads of bge-m3 are on the hub, as was seen, and not in this folder.
    asked = msgspec.structs.replace(spec, kind="dense") if spec.kind == "bge-m3" else spec
    try:
        fetch(f"{path}/{name}" for path in module_paths(folder) if path for name in SETTINGS)
        check_settings(folder, hub, asked)
        check_modules(folder, hub, names)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {hub}: {one_line(error)}; give another revision (MODEL@REVISION)") from error


def main() -> int:
    """Check the passes on standard input; ProtocolError's exit code where they are none."""
    lifeline.hold()
    try:
        passes = msgspec.json.decode(sys.stdin.buffer.read(), type=list[PassSpec])
    except (msgspec.MsgspecError, RecursionError) as error:
        sys.stderr.write(f"standard input is no JSON array of passes: {error}\n")
        return ProtocolError.exit_code
    found = refusals(passes)
    for one in found:
        sys.stdout.buffer.write(msgspec.json.encode(one) + b"\n")
    return EXIT_USAGE if found else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
