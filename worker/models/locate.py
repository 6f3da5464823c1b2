"""Find a model's files: in a local folder, the hub's cache, an installed package, or on the hub."""

from __future__ import annotations

import difflib
import errno
import importlib.util
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import ModelError
from ...protocol.host.hub_cache import hub_cache, model_folder
from ...protocol.spec import catalog
from ...protocol.spec.run_spec import CPU_KINDS, FLAGS, PassSpec
from .folder_check import check_folder

WANTED: tuple[str, ...] = (
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "*.py",
    "*.metadata",
    "sparse_linear.pt",
    "colbert_linear.pt",
)
"""The files to fetch from the hub. The only pickled ones are bge-m3's two heads, read with `weights_only=True`."""


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
HUB_SECONDS = 10.0
"""Time limit for one answer of the hub."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's folder, its name for messages, and its revision (empty if not known)."""

    folder: Path
    name: str
    revision: str


def find_model(spec: PassSpec) -> ModelFiles:
    """Find the model of an alias, hub id or folder and check that it can be used. ModelError with a remedy if not."""
    try:
        files, hub = find_local(spec)
        files = files or fetch(spec, hub)
        check_folder(files.folder, files.name, spec)
    except ModelError as error:
        raise ModelError(f"{FLAGS[spec.kind]}: {error}") from error
    return files


def find_local(spec: PassSpec, *, offline: bool = False) -> tuple[ModelFiles | None, str]:
    """The files of a model on this host, or None; and its hub id, empty for a folder.

    An incomplete snapshot is completed from the hub unless `offline`. ModelError for a name that is neither folder nor hub id.
    """
    folder = Path(spec.model).expanduser()
    if folder.is_dir():
        return ModelFiles(folder, folder.name, spec.revision or ""), ""
    entry = catalog.find(spec.model)
    if entry is None and not _is_hub_id(spec.model):
        raise ModelError(
            f"model {spec.model!r} is not a folder, not a hub id (owner/name), and not in the catalogue. {_suggestion(spec)}"
        )
    hub = entry.hub if entry is not None else spec.model
    cached = _from_hub(hub, spec.revision, offline=True)
    if cached is not None:
        return (cached if offline or _is_whole(cached) else _complete_snapshot(cached, hub, spec.revision)), hub
    if entry is not None and entry.package and spec.revision is None:
        packaged = importlib.util.find_spec(entry.package)
        if packaged is not None and packaged.origin is not None:
            return ModelFiles(Path(packaged.origin).parent / "model", hub, ""), hub
    return None, hub


def _is_whole(files: ModelFiles) -> bool:
    """Whether a cached snapshot has `modules.json`, or the hub is known to have none for it.

    transformers alone caches the weights without the modules that follow them. With a default pooling, the vectors would be
    wrong.
    """
    from huggingface_hub import try_to_load_from_cache

    if (files.folder / "modules.json").exists():
        return True
    return try_to_load_from_cache(files.name, "modules.json", revision=files.revision) is not None


def _complete_snapshot(files: ModelFiles, hub: str, revision: str | None) -> ModelFiles:
    """The complete snapshot if the hub has modules for it; otherwise, or if the hub cannot be reached, the cached one.

    The cache records that the hub has none, so the hub is asked only once.
    """
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(hub, "modules.json", revision=files.revision, etag_timeout=HUB_SECONDS)
    except (OSError, ValueError):  # huggingface_hub's are OSErrors or ValueErrors
        return files
    with hub_errors(hub, revision):
        return _from_hub(hub, files.revision, offline=False) or files


def fetch(spec: PassSpec, hub: str) -> ModelFiles:
    """Fetch a model from the hub. ModelError if it has none of that name, or cannot be reached."""
    try:
        files = _from_hub(hub, spec.revision, offline=False)
    except ModelError as error:
        if catalog.find(spec.model) is not None:
            raise
        raise ModelError(f"no folder {spec.model!r} is here, and {error}") from error
    assert files is not None, "online, a missing snapshot raises"
    return files


def _suggestion(spec: PassSpec) -> str:
    """A similar name for one that is not known, and the known models, for a message."""
    if spec.kind == "sparse":
        known = [*sorted(CPU_KINDS), *catalog.aliases("sparse")]
        remedy = "For sparse weights give bm25, metadata, or a SPLADE-style model by its folder or hub id"
    else:
        known = catalog.aliases(spec.kind if spec.kind in ("multivector", "rerank") else "dense")
        remedy = f"Known: {', '.join(known)}"
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(spec.model.lower(), by_lower, 1, 0.5)
    return f"Did you mean {by_lower[close[0]]}? {remedy}" if close else remedy


def _is_hub_id(model: str) -> bool:
    owner, _, name = model.partition("/")
    return bool(owner and name) and "/" not in name and not model.startswith((".", "/", "~"))


def _from_hub(hub: str, revision: str | None, *, offline: bool) -> ModelFiles | None:
    if offline and _is_never_cached(hub):
        return None
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModelError("real models need torch: pip install 'embedfleet[torch]'") from error
    wanted = list(WANTED)
    if offline:
        try:
            folder = snapshot_download(hub, revision=revision, allow_patterns=wanted, local_files_only=True)
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
            return None
        if not any(Path(folder).rglob("*.safetensors")):
            return None
    else:
        with hub_errors(hub, revision):
            folder = snapshot_download(hub, revision=revision, allow_patterns=wanted)
    return ModelFiles(Path(folder), hub, Path(folder).name)


def _is_never_cached(hub: str) -> bool:
    """Whether the hub's cache has no folder for it. The client, which says the same, takes a quarter of a second to import."""
    if "huggingface_hub" in sys.modules or importlib.util.find_spec("huggingface_hub") is None:
        return False
    return not model_folder(hub).is_dir()


@contextmanager
def hub_errors(hub: str, revision: str | None, wanted: str = "") -> Generator[None]:
    """Turn errors of the hub's client into ModelErrors with a remedy. `wanted` names a part of the model: "its graph is "."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise ModelError(f"model {hub}: access is gated; accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {hub}: the hub has no such repository (or it is private: set HF_TOKEN); check the spelling"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"model {hub}: the hub has no revision {revision!r}; give a branch, tag or commit that it has, as in "
            f"{hub}@main"
        ) from error
    except Exception as error:  # the client may use any of several HTTP libraries, each with its own errors
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            raise ModelError(
                f"model {hub}: its files cannot be written to {hub_cache()} ({error.strerror}): make room there, or name "
                "another folder in HF_HOME"
            ) from error
        raise ModelError(
            f"model {hub}: {wanted}not in the hub's cache, and the hub cannot be reached ({type(error).__name__}). "
            f"Give a local folder instead, or fetch it where there is a network: embedfleet models pull {hub}"
        ) from error
