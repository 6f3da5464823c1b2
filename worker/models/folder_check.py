"""Check by its files whether a model's folder can be used, in milliseconds, without torch and without reading weights.

The files checked are those of the model's parts (`parts.py`), as sentence-transformers would load them.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ..formats.safetensors_header import Tensor, read_tensors
from .parts import ADAPTER, INDEX, TRANSFORMERS, WHOLE, WITH_WEIGHTS, Part, parts_of, read_settings, weight_files
from .settings_check import NAMED_BY, check_parts, download_again_hint

_TOKENIZERS = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "tekken.json", "*.tiktoken"),
    *("whitespacetokenizer_config.json", "phrasetokenizer_config.json"),
)
_BYTES_AND_CHARACTERS = ("ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer")
"""Tokenizers that need no vocabulary."""
_WIDTHS = ("hidden_size", "d_model", "n_embd")


class _Tokenizer(msgspec.Struct):
    model: msgspec.Raw


def check_folder(folder: Path, name: str, spec: PassSpec) -> None:
    """Raise ModelError, in one line, if the model `name` cannot be used for the pass."""

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
        raise ModelError(f"model {name}: {one_line(error)}; {download_again_hint(name)}") from error


def check_pickled(folder: Path, name: str, parts: Iterable[Part], files: Iterable[str]) -> None:
    """Raise ModelError if a part has only pickled weights. `files` are paths within the model's folder."""
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
    """The text of an error in one line, for a message."""
    return " ".join(str(error).split())[:400]


def _files_in(folder: Path) -> Iterable[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file()) if folder.is_dir() else ()


def _check_weights(folder: Path, name: str, part: Part, *, trusted: bool) -> None:
    """Check that the part's safetensors files exist, are complete, and fit its config."""
    if part.name not in (*TRANSFORMERS, *WITH_WEIGHTS) or not part.is_standard:
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
    """Raise ModelError for weights of another model: transformers would load those that fit, and set the rest at random."""
    settings = read_settings(config)
    width = next((settings[one] for one in _WIDTHS if isinstance(settings.get(one), int)), None)
    if width is not None and width not in sides:
        raise ModelError(
            f"model {name}: the weights in {config.parent} are of another model than its config.json, which says a width of "
            f"{width} that no tensor has; put the two that belong together into one folder"
        )


def _check_tokenizer(folder: Path, name: str, part: Part) -> None:
    """Check that a part for texts has a tokenizer that is not damaged."""
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
    for file in NAMED_BY:
        settings: dict[str, Any] = read_settings(place / file) if (place / file).is_file() else {}
        if settings.get("tokenizer_class") in _BYTES_AND_CHARACTERS:
            return True
    return False
