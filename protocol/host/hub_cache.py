"""The cache of the Hugging Face hub on this host, read without the hub's client, which is slow to import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "models--"
MAIN = "main"
"""The revision of a model that is named without one."""


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in the cache by its hub id. `bytes` counts the files of all revisions, each once."""

    name: str
    snapshot: Path | None
    """The folder with the files of the revision `main`; None if the cache has other revisions only."""
    has_weights: bool
    """Whether that folder has weights that can be used (safetensors)."""
    bytes: int


def hub_home() -> Path:
    """The folder of the hub's client: HF_HOME, else in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    return _expanded(os.environ.get("HF_HOME", os.path.join(home, "huggingface")))


def hub_cache() -> Path:
    """The folder with one folder for each model. It may not exist."""
    older = os.environ.get("HUGGINGFACE_HUB_CACHE", os.path.join(hub_home(), "hub"))
    return _expanded(os.environ.get("HF_HUB_CACHE", older))


def offline_variable() -> str:
    """The environment variable that forbids to ask the hub, with its value; empty if there is none."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{name}={os.environ[name]}"
    return ""


def model_folder(name: str) -> Path:
    """The folder of a model in the cache. It may not exist."""
    return hub_cache() / f"{PREFIX}{name.replace('/', '--')}"


def cached_names() -> list[str]:
    """The hub ids of the models that the cache has a folder for."""
    try:
        found = [one.name for one in os.scandir(hub_cache()) if one.name.startswith(PREFIX)]
    except OSError:
        return []
    return sorted(one.removeprefix(PREFIX).replace("--", "/", 1) for one in found)


def find_cached(name: str) -> CachedModel | None:
    """What the cache has of a model; None for nothing."""
    folder = model_folder(name)
    snapshots = folder / "snapshots"
    if not os.path.isdir(snapshots):
        return None
    main = _commit(folder, MAIN)
    snapshot = snapshots / main if main and os.path.isdir(snapshots / main) else None
    weights = snapshot is not None and any(path.suffix == ".safetensors" for path in _files(snapshot))
    sizes = {(one.st_dev, one.st_ino): one.st_size for one in (path.stat() for path in _files(snapshots))}
    return CachedModel(name, snapshot, weights, sum(sizes.values()))


def cached_models() -> list[CachedModel]:
    """All models in the cache."""
    return [found for name in cached_names() if (found := find_cached(name)) is not None]


def _commit(folder: Path, revision: str) -> str:
    try:
        return (folder / "refs" / revision).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder; links to blobs that are gone are left out."""
    return (path for path in folder.rglob("*") if os.path.isfile(path))


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(path)))
