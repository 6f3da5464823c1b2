"""Check by its files alone whether a model's folder can be used: no torch, no weight read, some milliseconds.

The files checked are those of the model's parts (`parts.py`), as sentence-transformers would load them.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from .kind_check import check_kind
from .parts import (
    ADAPTER,
    INDEX,
    TRANSFORMERS,
    WHOLE,
    WITH_WEIGHTS,
    WITHOUT_SETTINGS,
    Has,
    Part,
    parts_of,
    read_settings,
    weight_files,
)
from .safetensors_header import Tensor, read_tensors
from .similarity import SENTENCE, check_similarity
from .texts import check_prompts

_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "tekken.json", "*.tiktoken"),
    *("whitespacetokenizer_config.json", "phrasetokenizer_config.json"),
)
_BYTES_AND_CHARACTERS = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers that need no vocabulary."""
_OURS = ("sentence_transformers.", "pylate.")
"""Modules that sentence-transformers knows itself; it asks for trust before it imports others."""
_WIDTHS = ("hidden_size", "d_model", "n_embd")
_NAMED_BY = ("config.json", "tokenizer_config.json")
"""Files of each part that may name code to run."""
_READ = ("tokenizer_config.json", "sentence_bert_config.json", "special_tokens_map.json")
"""Files of settings that a part is loaded from where it has them."""
_IMAGES = ("clip", "chinese_clip", "siglip", "siglip2", "align", "altclip", "clipseg", "groupvit", "blip", "flava")
"""Types of models for images and captions, whose vectors of texts are not meant for chunks."""
_NEEDED = {
    "Pooling": (("embedding_dimension", "word_embedding_dimension"),),
    "WeightedLayerPooling": (("embedding_dimension", "word_embedding_dimension"),),
    "Dense": (("in_features",), ("out_features",)),
    "LayerNorm": (("dimension",),),
    "WordEmbeddings": (("tokenizer_class",),),
}
"""Settings that a module cannot do without, each with its alternative names."""


class _Tokenizer(msgspec.Struct):
    model: msgspec.Raw


def check_folder(folder: Path, name: str, spec: PassSpec) -> None:
    """ModelError, in one line, where the model that is called `name` cannot be used for the pass."""

    def has(file: str) -> bool:
        return (folder / file).is_file()

    try:
        parts = parts_of(folder)
        check_parts(folder, name, spec, parts, has)
        files = (one.relative_to(folder).as_posix() for part in parts for one in _files_in(folder / part.path))
        check_pickled(folder, name, parts, files)
        for part in parts:
            _check_weights(folder, name, part, trusted=spec.trust_remote_code)
            if not spec.trust_remote_code:
                _check_tokenizer(folder, name, part)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: {one_line(error)}; {_again(name)}") from error


def settings_files(parts: Iterable[Part]) -> list[str]:
    """Every file that `check_parts` reads, by its path, where the model has it."""
    found = ["modules.json", SENTENCE]
    for part in parts:
        found += [*(part.file(one) for one in (*_NAMED_BY, *_READ)), *part.settings(), part.file(ADAPTER)]
    return list(dict.fromkeys(found))


def check_parts(folder: Path, name: str, spec: PassSpec, parts: list[Part], has: Has) -> None:
    """Check what the settings alone can tell: every part is there, code is trusted, the kind fits. ValueError for a damaged
    file.

    `has` says which files the model has; those of settings are in `folder`.
    """
    if not spec.trust_remote_code and (where := _own_code(folder, parts)):
        raise ModelError(
            f"model {name} brings Python code of its own ({where} of {folder}). To run that code with your "
            "rights, read it first, then give --trust-remote-code"
        )
    for part in parts:
        if not part.type.startswith(_OURS):
            continue  # the model's own code, which is trusted, knows what it loads
        if part.name in TRANSFORMERS:
            _check_backbone(folder, name, part, has)
        else:
            _check_module(folder, name, part, has)
    for file in dict.fromkeys((SENTENCE, *(part.file(one) for part in parts for one in _READ))):
        if (folder / file).is_file():
            read_settings(folder / file)
    check_kind(spec.kind, folder, name)
    check_prompts(folder, name, spec.kind)
    check_similarity(folder, name, spec)


def _own_code(folder: Path, parts: Iterable[Part]) -> str:
    """The file that names code which is neither transformers' nor sentence-transformers'; empty if there is none."""
    parts = list(parts)
    for path in dict.fromkeys(part.file(one) for part in parts for one in _NAMED_BY):
        if (folder / path).is_file() and "auto_map" in read_settings(folder / path):
            return f"auto_map in {path}"
    return next((f"{one.type} in modules.json" for one in parts if not one.type.startswith(_OURS)), "")


def _check_backbone(folder: Path, name: str, part: Part, has: Has) -> None:
    if has(part.file(ADAPTER)):
        _check_adapter(folder, name, part)
        return
    config = folder / part.file("config.json")
    if not has(part.file("config.json")):
        missing = f"{folder} has no config.json" if not part.path else f"{_named(part)} {config}, which is not there"
        raise ModelError(f"model {name}: {missing}; give the folder of a saved model")
    settings = read_settings(config)
    if not isinstance(settings.get("model_type"), str):
        raise ModelError(
            f"model {name}: {config} names no model_type, so its architecture is not known; "
            "give the folder of a model that transformers or sentence-transformers saved"
        )
    if part.name == "CLIPModel" or settings["model_type"] in _IMAGES:
        raise ModelError(
            f"model {name} is for images and their captions ({config}: model_type {settings['model_type']}), "
            "which is not supported; give a model for texts"
        )


def _check_adapter(folder: Path, name: str, part: Part) -> None:
    path = folder / part.file(ADAPTER)
    settings = read_settings(path)
    kind, base = (
        settings.get("peft_type", "PEFT"),
        settings.get("base_model_name_or_path") or "a base that it does not name",
    )
    what = f"model {name} is an adapter ({kind}) for {base}: {path}"
    merge = (
        "merge it into its base (merge_and_unload(), then save_pretrained()) and give that folder; where its weights are "
        f"merged already, delete {ADAPTER}"
    )
    if importlib.util.find_spec("peft") is None:
        raise ModelError(
            f"{what}. It cannot be used without its base: {merge}. Or pip install peft, with the base on this host"
        )
    if not _is_here(str(base)):
        raise ModelError(f"{what}, and the base is not on this host. Fetch it (hf download {base}), or {merge}")


def _is_here(base: str) -> bool:
    """Whether the base of an adapter is a folder, or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if Path(base).is_dir():
        return True
    try:
        return isinstance(try_to_load_from_cache(base, "config.json"), str)
    except ValueError:  # no name that the hub could have
        return False


def _check_module(folder: Path, name: str, part: Part, has: Has) -> None:
    """Check that a module of sentence-transformers is known, and has the settings that it needs."""
    if part.name not in WITHOUT_SETTINGS and part.name not in _NEEDED and not _is_known(part):
        raise ModelError(
            f"model {name}: modules.json of {folder} names the module {part.type}, which the installed sentence-transformers "
            "does not have: pip install -U sentence-transformers, or check the name"
        )
    places = part.settings()
    found = next((one for one in places if has(one)), None)
    if places and found is None:
        there = f"{folder / part.path} has no {places[0].rpartition('/')[2]}"
        if part.path and not (folder / part.path).is_dir():
            there = f"{folder / part.path} is not there"
        raise ModelError(
            f"model {name}: {_named(part)} {part.path or 'the folder itself'}, and {there}, so that its vectors "
            f"would be wrong; {_again(name, 'folder')}"
        )
    if found is not None:
        settings = read_settings(folder / found)
        lacking = [
            " or ".join(names) for names in _NEEDED.get(part.name, ()) if not any(one in settings for one in names)
        ]
        if lacking:
            raise ValueError(f"{folder / found} has no {lacking[0]}, which a {part.name} needs")


def _named(part: Part) -> str:
    return f"modules.json names the module {part.name} in"


def _is_known(part: Part) -> bool:
    """Whether the installed sentence-transformers has a class of that name. True also if that cannot be found out."""
    if part.type.startswith("pylate.") or part.name == "Asym":
        return True
    package = importlib.util.find_spec("sentence_transformers")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        return True
    word = re.compile(rf"^(?:class )?{re.escape(part.name)}\b", re.MULTILINE)
    files = (one for folder in folders for one in Path(folder).glob("*/modules/**/*.py"))
    return any(word.search(one.read_text("utf-8", "replace")) for one in files)


def check_pickled(folder: Path, name: str, parts: Iterable[Part], files: Iterable[str]) -> None:
    """ModelError where a part would be loaded from pickled weights. `files` are the model's, by path within its folder."""
    known = list(dict.fromkeys(files))
    for path in dict.fromkeys(part.path for part in parts):
        mine = [one.rpartition("/")[2] for one in known if one.rpartition("/")[0] == path]
        pickled = [one for one in mine if fnmatchcase(one, "pytorch_model*.bin")]
        if pickled and not any(one.endswith(".safetensors") for one in mine):
            raise ModelError(
                f"model {name}: {'/'.join(filter(None, (path, pickled[0])))} of {folder} is pickled, and has no safetensors "
                "weights beside it. Pickled weights can run code when loaded and are refused; convert them with "
                "sentence-transformers' save_pretrained()"
            )


def one_line(error: Exception) -> str:
    """What an error says, for a message."""
    return " ".join(str(error).split())[:400]


def _files_in(folder: Path) -> Iterable[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file()) if folder.is_dir() else ()


def _again(name: str, what: str = "file") -> str:
    fetch = f"hf download --force-download {name}" if "/" in name else "copy it again from where it came from"
    return f"get the {what} again: {fetch}"


def _check_weights(folder: Path, name: str, part: Part, *, trusted: bool) -> None:
    """Check that the part's safetensors files are there, whole, and of the model that its config names."""
    if part.name not in (*TRANSFORMERS, *WITH_WEIGHTS) or not part.type.startswith(_OURS):
        return
    files = weight_files(folder, part)
    if not files:
        if trusted:  # the model's own code may look for others
            return
        raise ModelError(
            f"model {name}: {folder / part.path} has no safetensors weights ({WHOLE}, or {INDEX} and its shards). Pickled "
            "weights (.bin, .pt) can run code when loaded and are refused; convert them with save_pretrained()"
        )
    sides: set[int] = set()
    for file in files:
        path = folder / file
        if not path.is_file():
            raise ValueError(f"{path} is missing, which {INDEX} lists")
        try:
            tensors: dict[str, Tensor] = read_tensors(path)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        sides.update(side for one in tensors.values() for side in one.shape)
    if part.name in TRANSFORMERS and not (folder / part.file(ADAPTER)).is_file():
        _check_width(folder / part.file("config.json"), name, sides)


def _check_width(config: Path, name: str, sides: set[int]) -> None:
    """Weights of another model beside this config: transformers would take what fits and make up the rest."""
    settings = read_settings(config)
    width = next((settings[one] for one in _WIDTHS if isinstance(settings.get(one), int)), None)
    if width is not None and width not in sides:
        raise ModelError(
            f"model {name}: the weights in {config.parent} are of another model than its config.json, which says a width of "
            f"{width} that no tensor has; put the two that belong together into one folder"
        )


def _check_tokenizer(folder: Path, name: str, part: Part) -> None:
    """Check that a part which takes texts has a tokenizer, and that it is whole."""
    if part.name not in (*TRANSFORMERS, "StaticEmbedding", "SparseStaticEmbedding", "WordEmbeddings"):
        return
    place = folder / part.path
    wanted = ("tokenizer.json",) if part.name == "StaticEmbedding" else _TOKENIZERS
    found = [path for pattern in wanted for path in place.glob(pattern) if path.is_file()]
    if not found and not _needs_no_vocabulary(place):
        raise ModelError(
            f"model {name}: {place} has no tokenizer (tokenizer.json, vocab.txt or a *.model); without one an empty "
            "vocabulary would be made up. Save the tokenizer there too, with its save_pretrained()"
        )
    for path in found:
        if path.name == "tokenizer.json":
            try:
                msgspec.json.decode(path.read_bytes(), type=_Tokenizer)
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise ValueError(f"{path} is damaged: {error}") from error


def _needs_no_vocabulary(place: Path) -> bool:
    for file in _NAMED_BY:
        settings: dict[str, Any] = read_settings(place / file) if (place / file).is_file() else {}
        if settings.get("tokenizer_class") in _BYTES_AND_CHARACTERS:
            return True
    return False
