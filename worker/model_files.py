"""Where a model's files are: a local folder, the hub's cache, an installed package, or the hub; and whether to trust them."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..protocol import catalog
from ..protocol.errors import ModelError
from ..protocol.spec import CPU_KINDS, FLAGS, PassSpec

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.py", "*.metadata", "sparse_linear.pt", "colbert_linear.pt")
"""What is fetched from the hub: no pickled weights but bge-m3's two heads, which are read with `weights_only=True`."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder, what to call it, and which revision it is (empty where nobody says)."""

    folder: Path
    name: str
    revision: str


def find_model(spec: PassSpec) -> ModelFiles:
    """Resolve an alias, hub id or folder and check that it can be used; ModelError says what to do otherwise."""
    try:
        files = _locate(spec)
        _check(files, spec)
    except ModelError as error:
        raise ModelError(f"{FLAGS[spec.kind]}: {error}") from error
    return files


def hash_weights(folder: Path) -> str:
    """SHA-256 over the names and contents of the weight files and of what decides the tokens and the pooling."""
    state = hashlib.sha256()
    paths = [*folder.rglob("*.safetensors"), *folder.rglob("tokenizer.json"), *folder.glob("*_Pooling/config.json")]
    for path in sorted(paths):
        state.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as handle:
            while block := handle.read(1 << 22):
                state.update(block)
    return state.hexdigest()


def _locate(spec: PassSpec) -> ModelFiles:
    folder = Path(spec.model).expanduser()
    if folder.is_dir():
        return ModelFiles(folder, folder.name, spec.revision or "")
    entry = catalog.find(spec.model)
    if entry is None and not _is_hub_id(spec.model):
        raise ModelError(_unknown(spec))
    hub = entry.hub if entry is not None else spec.model
    cached = _from_hub(hub, spec.revision, offline=True)
    if cached is not None:
        return cached
    if entry is not None and entry.package and spec.revision is None:
        packaged = importlib.util.find_spec(entry.package)
        if packaged is not None and packaged.origin is not None:
            return ModelFiles(Path(packaged.origin).parent / "model", hub, "")
    try:
        fetched = _from_hub(hub, spec.revision, offline=False)
    except ModelError as error:
        if entry is not None:
            raise
        raise ModelError(f"no folder {spec.model!r} is here, and {error}") from error
    assert fetched is not None, "online, a missing snapshot raises"
    return fetched


def _unknown(spec: PassSpec) -> str:
    names = [*CPU_KINDS] if spec.kind == "sparse" else catalog.aliases()
    close = difflib.get_close_matches(spec.model, names, 1, 0.5)
    hint = f"Did you mean {close[0]}? " if close else ""
    what = "not in the catalogue" if spec.kind != "sparse" else "not a kind of weights"
    return (
        f"model {spec.model!r} is not a folder, not a hub id (owner/name), and {what}. {hint}"
        f"Known: {', '.join(sorted(names, key=str.lower))}"
    )


def _is_hub_id(model: str) -> bool:
    owner, _, name = model.partition("/")
    return bool(owner and name) and "/" not in name and not model.startswith((".", "/", "~"))


def _from_hub(hub: str, revision: str | None, *, offline: bool) -> ModelFiles | None:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise ModelError("real models need torch: pip install 'embedfleet[torch]'") from error
    try:
        folder = snapshot_download(hub, revision=revision, allow_patterns=list(WANTED), local_files_only=offline)
    except GatedRepoError as error:
        raise ModelError(f"model {hub}: access is gated; accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"model {hub}: the hub has no such repository (or it is private: set HF_TOKEN)") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model {hub}: the hub has no revision {revision!r}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        if offline:
            return None
        raise ModelError(
            f"model {hub}: not in the hub's cache, and the hub cannot be reached ({type(error).__name__}). "
            "Give a local folder instead, or fetch it where there is a network: hf download " + hub
        ) from error
    path = Path(folder)
    if offline and not any(path.rglob("*.safetensors")):
        return None
    return ModelFiles(path, hub, path.name)


def _check(files: ModelFiles, spec: PassSpec) -> None:
    config = files.folder / "config.json"
    if not config.is_file():
        raise ModelError(f"model {files.name}: {files.folder} has no config.json; give the folder of a saved model")
    try:
        settings: dict[str, Any] = json.loads(config.read_text())
    except ValueError as error:
        raise ModelError(f"model {files.name}: {config} is not JSON: {error}") from error
    if "auto_map" in settings and not spec.trust_remote_code:
        raise ModelError(
            f"model {files.name} brings Python code of its own (auto_map in config.json). To run that code with your "
            "rights, read it first, then give --trust-remote-code"
        )
    if not any(files.folder.rglob("*.safetensors")):
        raise ModelError(
            f"model {files.name}: {files.folder} has no safetensors weights. Pickled weights (.bin, .pt) can run code when "
            "loaded and are refused; convert them with transformers' save_pretrained()"
        )
