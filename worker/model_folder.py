"""Whether a model's folder can be used, by its files alone: no torch, no weight read, some milliseconds."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import msgspec

from ..protocol.errors import ModelError
from ..protocol.spec import PassSpec
from .model_kinds import check_kind, module_paths, module_types, read_config, read_settings
from .model_texts import check_prompts
from .safetensors_header import Tensor, read_tensors

_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "tekken.json", "*.tiktoken")
_OURS = ("sentence_transformers.", "pylate.")
"""Modules that sentence-transformers knows itself; it asks for trust before it imports others."""
_WIDTHS = ("hidden_size", "d_model", "n_embd")
SETTINGS = ("config.json", "tokenizer_config.json")
"""Files that may name code to be run, of the model and of each of its modules."""


class _Tokenizer(msgspec.Struct):
    model: msgspec.Raw


def check_folder(folder: Path, name: str, spec: PassSpec) -> None:
    """ModelError, in one line, where the model that is called `name` cannot be used for the pass."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {name}: {folder} has no config.json; give the folder of a saved model")
    try:
        check_settings(folder, name, spec)
        widths = _check_weights(folder, name)
        check_modules(folder, name, (one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()))
        _check_width(folder, name, widths)
        if not spec.trust_remote_code:
            _check_tokenizer(folder, name)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: {one_line(error)}; {_again(name)}") from error


def check_settings(folder: Path, name: str, spec: PassSpec) -> None:
    """What the files of settings alone can tell: trust, and the kind. ValueError for a damaged one."""
    settings, types = read_config(folder), module_types(folder)
    if not spec.trust_remote_code and (where := _own_code(folder, types or [])):
        raise ModelError(
            f"model {name} brings Python code of its own ({where} of {folder}). To run that code with your "
            "rights, read it first, then give --trust-remote-code"
        )
    if not isinstance(settings.get("model_type"), str) and "Static" not in "".join(types or []):
        raise ModelError(
            f"model {name}: {folder / 'config.json'} names no model_type, so nobody can tell what it is; "
            "give the folder of a model that transformers or sentence-transformers saved"
        )
    check_kind(spec.kind, folder, name)
    check_prompts(folder, name, spec.kind)


def _own_code(folder: Path, types: Iterable[str]) -> str:
    """Which file names code that is neither transformers' nor sentence-transformers'; empty where none does."""
    for path in dict.fromkeys(["", *module_paths(folder)]):
        for name in SETTINGS:
            file = folder / path / name
            if file.is_file() and "auto_map" in read_settings(file):
                return f"auto_map in {file.relative_to(folder)}"
    return next((f"{one} in modules.json" for one in types if not one.startswith(_OURS)), "")


def check_modules(folder: Path, name: str, files: Iterable[str]) -> None:
    """ModelError where a module would be loaded from pickled weights. `files` are the model's, by path within its folder."""
    known = list(files)
    for path in module_paths(folder):
        mine = [one.rpartition("/")[2] for one in known if one.rpartition("/")[0] == path]
        pickled = [one for one in mine if fnmatchcase(one, "pytorch_model*.bin")]
        if pickled and not any(one.endswith(".safetensors") for one in mine):
            raise ModelError(
                f"model {name}: {'/'.join(filter(None, (path, pickled[0])))} of {folder} is pickled, without safetensors "
                "weights beside it. Pickled weights can run code when loaded and are refused; convert them with "
                "sentence-transformers' save_pretrained()"
            )


def one_line(error: Exception) -> str:
    """What an error says, for a message."""
    return " ".join(str(error).split())[:400]


def _again(name: str) -> str:
    fetch = f"hf download --force-download {name}" if "/" in name else "copy it again from where it came from"
    return f"get the file anew: {fetch}"


def _check_weights(folder: Path, name: str) -> set[int]:
    """Every safetensors file is whole; the lengths that their tensors' sides have."""
    found = sorted(folder.rglob("*.safetensors"))
    if not found:
        raise ModelError(
            f"model {name}: {folder} has no safetensors weights. Pickled weights (.bin, .pt) can run code when "
            "loaded and are refused; convert them with transformers' save_pretrained()"
        )
    sides: set[int] = set()
    for path in found:
        try:
            tensors: dict[str, Tensor] = read_tensors(path)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        sides.update(side for one in tensors.values() for side in one.shape)
    for index in folder.rglob("*.safetensors.index.json"):
        _check_shards(index)
    return sides


def _check_shards(index: Path) -> None:
    try:
        listed: Any = msgspec.json.decode(index.read_bytes())
        shards = {str(one) for one in cast("dict[str, str]", listed["weight_map"]).values()}
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged: {error}") from error
    for shard in sorted(shards):
        if not (index.parent / shard).is_file():
            raise ValueError(f"{index.parent / shard} is missing, which {index.name} lists")


def _check_width(folder: Path, name: str, sides: set[int]) -> None:
    """Weights of another model beside this config: transformers would take what fits and make up the rest."""
    settings = read_config(folder)
    width = next((settings[one] for one in _WIDTHS if isinstance(settings.get(one), int)), None)
    if width is not None and width not in sides:
        raise ModelError(
            f"model {name}: the weights in {folder} are of another model than its config.json, which says a width of "
            f"{width} that no tensor has; put the two that belong together into one folder"
        )


def _check_tokenizer(folder: Path, name: str) -> None:
    found = [path for pattern in _TOKENIZERS for path in folder.rglob(pattern) if path.is_file()]
    if not found:
        raise ModelError(
            f"model {name}: {folder} has no tokenizer (tokenizer.json, vocab.txt or a *.model); without one an empty "
            "vocabulary would be made up. Save the tokenizer there too, with its save_pretrained()"
        )
    for path in found:
        if path.name == "tokenizer.json":
            try:
                msgspec.json.decode(path.read_bytes(), type=_Tokenizer)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise ValueError(f"{path} is damaged: {error}") from error
