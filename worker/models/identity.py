"""The identity of a model: a digest for each file that its numbers depend on. These are the settings of every part, the
tokenizer, the prompts, its own code, and a sample of the weights.

It takes milliseconds and needs no torch. The layout of settings does not matter, nor what saved them. The sample of the weights
is the header, and the beginning, middle and end of each tensor: training changes every tensor. A worker also hashes all
weights that it loads (`weights_digest.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import msgspec

from ..formats.safetensors_header import Tensor, read_tensors
from .parts import Part, parts_of, weight_files

_SETTINGS = (
    *(
        "modules.json",
        "config.json",
        "config_sentence_transformers.json",
        "sentence_*_config.json",
        "router_config.json",
    ),
    *(
        "wordembedding_config.json",
        "cnn_config.json",
        "lstm_config.json",
        "*tokenizer_config.json",
        "adapter_config.json",
    ),
    *("processor_config.json", "preprocessor_config.json", "quantize_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "idf.json"),
)
_RAW = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model", "*.tiktoken", "tekken.json", "bpe.codes"),
    *("*.jinja", "sparse_linear.pt", "colbert_linear.pt"),
)
_NO_KEYS = frozenset({"_name_or_path", "name_or_path", "transformers_version", "__version__", "torch_dtype", "dtype"})
"""Keys that are ignored: what saved the model, from where, and the dtype, which the run sets."""
_BLOCK = 1 << 12


def identity(folder: Path, *, own_code: bool) -> dict[str, str]:
    """A digest for each file that the model's numbers depend on, by path. ValueError or OSError if one is damaged."""
    parts = parts_of(folder)
    paths = {path for part in [Part("", ""), *parts] for path in _small_files(folder, part, own_code=own_code)}
    found = {path: _small(folder / path) for path in paths}
    weights = {
        path for part in parts for path in weight_files(folder, part) or _others(folder, part, own_code=own_code)
    }
    found |= {path: _sample(folder / path) for path in weights}
    return dict(sorted(found.items()))


def _small_files(folder: Path, part: Part, *, own_code: bool) -> Iterator[str]:
    place = folder / part.path
    patterns = (*_SETTINGS, *_RAW, *(("*.py",) if own_code else ()))
    for path in place.iterdir() if place.is_dir() else ():
        if any(fnmatchcase(path.name, one) for one in patterns) and path.is_file():
            yield part.file(path.name)


def _others(folder: Path, part: Part, *, own_code: bool) -> list[str]:
    """Weights that only the model's own code may load."""
    return [part.file(one.name) for one in (folder / part.path).glob("*.safetensors")] if own_code else []


def _small(path: Path) -> str:
    content = path.read_bytes()
    if any(fnmatchcase(path.name, one) for one in _SETTINGS):
        try:
            settings: Any = msgspec.json.decode(content)
            content = msgspec.json.encode(_without(settings), order="sorted")
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            pass  # hash it as it is: other checks report the damage
    return _digest(content)


def _without(value: Any) -> Any:
    if isinstance(value, list):
        return [_without(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    kept = {key: _without(one) for key, one in cast("dict[str, Any]", value).items() if key not in _NO_KEYS}
    if kept.get("similarity_fn_name") in (None, "cosine"):
        kept.pop("similarity_fn_name", None)
    return kept


def _sample(path: Path) -> str:
    tensors = read_tensors(path)
    state = hashlib.blake2b(digest_size=8)
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        state.update(file.read(start - 8))
        for one in sorted(tensors.values(), key=_place):
            first, end = one.data_offsets
            for at in sorted({first, (first + end - _BLOCK) // 2, end - _BLOCK}):
                file.seek(start + max(first, at))
                state.update(file.read(min(_BLOCK, end - max(first, at))))
    return state.hexdigest()


def _place(one: Tensor) -> tuple[int, int]:
    return one.data_offsets


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
