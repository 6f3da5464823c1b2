"""The parts (modules) of a model's folder, from `modules.json` and routers' settings, and the files of each.

A folder that transformers alone saved is one part, a Transformer. Other files are ignored: exports to ONNX, checkpoints of a
training, unused modules.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

Has = Callable[[str], bool]
"""Whether the model has a file, by its path within the folder."""

TRANSFORMERS = ("Transformer", "CLIPModel", "MLMTransformer")
"""Modules that are loaded by transformers: from a config.json, weights and a tokenizer."""
ROUTERS = ("Router", "Asym")
WITHOUT_SETTINGS = ("Normalize", "Dropout", "StaticEmbedding", *TRANSFORMERS)
"""Modules that need no settings of their own. The hub has no empty folders, so these may have no folder there."""
OF_OTHER_NAMES = {
    "WordEmbeddings": ("wordembedding_config.json",),
    "CNN": ("cnn_config.json",),
    "LSTM": ("lstm_config.json",),
    **dict.fromkeys(ROUTERS, ("router_config.json", "config.json")),
}
"""Modules whose settings have another file name than config.json."""
WITH_WEIGHTS = (
    *("StaticEmbedding", "Dense", "LayerNorm", "WeightedLayerPooling", "WordEmbeddings", "CNN", "LSTM"),
    *("SparseAutoEncoder", "CSRSparsity"),
)
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Part:
    """One module: the full name of its class, and its folder within the model's folder (empty for that itself)."""

    type: str
    path: str

    @property
    def name(self) -> str:
        """The name of its class without the module."""
        return self.type.rsplit(".", 1)[-1]

    @property
    def is_standard(self) -> bool:
        """Whether it is a class of sentence-transformers or PyLate. Other classes are the model's own code and need trust."""
        return self.type.startswith(("sentence_transformers.", "pylate."))

    def file(self, name: str) -> str:
        """The path of the part's file `name` within the model's folder."""
        return f"{self.path}/{name}" if self.path else name

    def settings(self) -> tuple[str, ...]:
        """Possible paths of its settings, of which the first existing one counts; empty if it needs none."""
        if self.name in WITHOUT_SETTINGS:
            return ()
        return tuple(self.file(one) for one in OF_OTHER_NAMES.get(self.name, ("config.json",)))


def parts_of(folder: Path) -> list[Part]:
    """All modules of the model, with those of routers' routes. ValueError, naming the file, if one is damaged."""
    named = named_modules(folder)
    if named is None:
        return [Part("sentence_transformers.models.Transformer", "")]
    return [one for module in named for one in _with_routes(folder, module)]


def named_modules(folder: Path) -> list[Part] | None:
    """The modules in `modules.json`; None for a folder that transformers alone saved. ValueError if it is damaged."""
    path = folder / "modules.json"
    if not path.is_file():
        return None
    modules: Any = read_json(path)
    if not isinstance(modules, list):
        raise ValueError(f"{path} is not a list of modules")
    if not modules:
        raise ValueError(f"{path} is an empty list: it names no module")
    return [_module(path, one) for one in cast("list[Any]", modules)]


def _module(path: Path, one: Any) -> Part:
    if not isinstance(one, dict):
        raise ValueError(f"{path} has a module without a type")
    module = cast("dict[str, Any]", one)
    for key in ("type", "path"):
        if not isinstance(module.get(key), str):
            raise ValueError(f"{path} has a module without a {key}")
    return Part(module["type"], _inside(path, module["path"]))


def _inside(path: Path, given: str) -> str:
    inside = posixpath.normpath(given.strip("/") or ".")
    if given.startswith("/") or inside.split("/")[0] == "..":
        raise ValueError(f"{path} names {given!r}, which is outside of the model's folder")
    return "" if inside == "." else inside


def _with_routes(folder: Path, module: Part) -> Iterator[Part]:
    yield module
    if module.name not in ROUTERS:
        return
    file = next((folder / one for one in module.settings() if (folder / one).is_file()), None)
    if file is None:
        return  # the check of every part's settings reports it
    types: Any = read_settings(file).get("types")
    if not isinstance(types, dict):
        raise ValueError(f"{file} names no modules for its routes")
    for name, kind in cast("dict[str, Any]", types).items():
        if not isinstance(kind, str):
            raise ValueError(f"{file} has a module without a type")
        yield from _with_routes(folder, Part(kind, _inside(file, module.file(name))))


def backbones(parts: list[Part]) -> list[Part]:
    """The parts that transformers loads."""
    return [one for one in parts if one.name in TRANSFORMERS]


def weight_files(folder: Path, part: Part) -> list[str]:
    """The safetensors files that the part is loaded from, as sentence-transformers chooses: one whole file, or else the
    shards of an index. Empty if it has none. ValueError for a damaged index."""
    if part.name in TRANSFORMERS and (folder / part.file(ADAPTER)).is_file():
        found = [part.file(ADAPTER_WEIGHTS)]
        return [one for one in found if (folder / one).is_file()]
    if (folder / part.file(WHOLE)).is_file():
        return [part.file(WHOLE)]
    index = folder / part.file(INDEX)
    if part.name not in TRANSFORMERS or not index.is_file():
        return []
    try:
        listed: Any = msgspec.json.decode(index.read_bytes())
        shards = {str(one) for one in cast("dict[str, str]", listed["weight_map"]).values()}
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged: {error}") from error
    return [part.file(one) for one in sorted(shards)]


def read_settings(path: Path) -> dict[str, Any]:
    """The content of a settings file. ValueError if it is damaged."""
    settings: Any = read_json(path)
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a JSON object")
    return cast("dict[str, Any]", settings)


def read_json(path: Path) -> Any:
    """The content of a JSON file. ValueError if it is not JSON."""
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
