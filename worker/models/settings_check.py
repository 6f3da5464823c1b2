"""Check by a model's settings whether it can be used: its modules are known and complete, its code is trusted, and it is for
texts.

Settings are a few small files, which can be fetched from the hub without the weights.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from .kind_check import check_kind
from .parts import ADAPTER, TRANSFORMERS, WITHOUT_SETTINGS, Has, Part, read_settings
from .similarity import SENTENCE, check_similarity
from .texts import check_prompts

NAMED_BY = ("config.json", "tokenizer_config.json")
"""Files of each part that may name code to run."""
_READ = ("tokenizer_config.json", "sentence_bert_config.json", "special_tokens_map.json")
"""Optional files of settings of a part."""
_IMAGES = ("clip", "chinese_clip", "siglip", "siglip2", "align", "altclip", "clipseg", "groupvit", "blip", "flava")
"""Types of models for images and captions. Their text vectors are not made for chunks."""
_NEEDED = {
    "Pooling": (("embedding_dimension", "word_embedding_dimension"),),
    "WeightedLayerPooling": (("embedding_dimension", "word_embedding_dimension"),),
    "Dense": (("in_features",), ("out_features",)),
    "LayerNorm": (("dimension",),),
    "WordEmbeddings": (("tokenizer_class",),),
}
"""Required settings of a module, each with its alternative names."""


def settings_files(parts: Iterable[Part]) -> list[str]:
    """Paths of all files that `check_parts` may read."""
    found = ["modules.json", SENTENCE]
    for part in parts:
        found += [*(part.file(one) for one in (*NAMED_BY, *_READ)), *part.settings(), part.file(ADAPTER)]
    return list(dict.fromkeys(found))


def check_parts(folder: Path, name: str, spec: PassSpec, parts: list[Part], has: Has) -> None:
    """Check by the settings that every part is there, code is trusted, and the kind fits.

    Raises ModelError; ValueError for a damaged file. `has` says which files the model has; its settings are in `folder`.
    """
    if not spec.trust_remote_code and (where := own_code(folder, parts)):
        raise ModelError(
            f"model {name} brings Python code of its own ({where} of {folder}). To run that code with your "
            "rights, read it first, then give --trust-remote-code"
        )
    for part in parts:
        if not part.is_standard:
            continue  # the model's own code, which is trusted, knows what it loads
        if part.name in TRANSFORMERS:
            _check_backbone(folder, name, part, has)
            _check_limit(folder, name, part)
        else:
            _check_module(folder, name, part, has)
    for file in dict.fromkeys((SENTENCE, *(part.file(one) for part in parts for one in _READ))):
        if (folder / file).is_file():
            read_settings(folder / file)
    check_kind(spec.kind, folder, name)
    check_prompts(folder, name, spec.kind)
    check_similarity(folder, name, spec)


def own_code(folder: Path, parts: Iterable[Part]) -> str:
    """Where the model names its own Python code, for a message; empty if it has none."""
    parts = list(parts)
    for path in dict.fromkeys(part.file(one) for part in parts for one in NAMED_BY):
        if (folder / path).is_file() and "auto_map" in read_settings(folder / path):
            return f"auto_map in {path}"
    return next((f"{one.type} in modules.json" for one in parts if not one.is_standard), "")


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


def _check_limit(folder: Path, name: str, part: Part) -> None:
    """Check that the limit of tokens is a number; the first of these files that has one counts."""
    for file, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = folder / part.file(file)
        limit: Any = read_settings(path).get(key) if path.is_file() else None
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, (int, float)):
            raise ModelError(f"model {name}: {key} in {path} is {repr(limit)[:60]}; make it a number, or null")
        return


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
    """Whether the base of an adapter is a local folder, or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if Path(base).is_dir():
        return True
    try:
        return isinstance(try_to_load_from_cache(base, "config.json"), str)
    except ValueError:  # not a valid hub id
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
            f"would be wrong; {download_again_hint(name, 'folder')}"
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
    """Whether the installed sentence-transformers has a class of that name; True if not known."""
    if part.type.startswith("pylate.") or part.name == "Asym":
        return True
    package = importlib.util.find_spec("sentence_transformers")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        return True
    word = re.compile(rf"^(?:class )?{re.escape(part.name)}\b", re.MULTILINE)
    files = (one for folder in folders for one in Path(folder).glob("*/modules/**/*.py"))
    return any(word.search(one.read_text("utf-8", "replace")) for one in files)


def download_again_hint(name: str, what: str = "file") -> str:
    """What to do about a part of the model that is damaged or missing."""
    fetch = f"hf download --force-download {name}" if "/" in name else "copy it again from where it came from"
    return f"get the {what} again: {fetch}"
