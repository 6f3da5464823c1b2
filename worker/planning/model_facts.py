"""Read a model's files without loading its weights: its limit of tokens, dimensions, parameters, layers.

For a model that is not on this host, the catalogue's figures; for one that is not in the catalogue either, the check of a run
asks the hub whether there is such a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...protocol.errors import ModelError
from ...protocol.planning.model_figures import ModelFacts
from ...protocol.spec import catalog
from ...protocol.spec.run_spec import FLAGS, PassSpec
from ..formats.safetensors_header import Tensor, read_tensors
from ..models.check import check_model
from ..models.folder_check import check_folder
from ..models.kind_check import config_file
from ..models.locate import ModelFiles, find_local
from ..models.parts import TRANSFORMERS, Part, backbones, parts_of, read_settings, weight_files
from ..models.text_limits import LONGEST
from ..models.texts import declared_prompts, document_prompt

TABLES = ("word_embeddings", "embed_tokens", "wte", "tok_embeddings", "token_type_embeddings")
"""Parts of the names of tensors that are looked up, and not multiplied."""
POSITIONS = ("position_embeddings", "wpe", "pos_embed")
"""Parts of the names of tables of learned positions."""
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Kinds of models whose positions begin after the id of padding."""
BYTES_A_PARAMETER = 4
"""Assumed of weights on the hub."""
MOST_SETTINGS = ("sentence_bert_config.json", "sentence_*_config.json")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """The facts, and the files that tokenize; `folder` is None for a model that is not here."""

    facts: ModelFacts
    folder: Path | None = None
    part: Part | None = None
    prompt: str = ""


def known_model(spec: PassSpec) -> KnownModel:
    """The model of a pass. ModelError, as for a run, if it cannot be used."""
    files, hub = find_local(spec, offline=True)
    entry = catalog.find(spec.model)
    if files is not None:
        check_folder(files.folder, files.name, spec)
        return _in_folder(spec, files)
    if entry is None:
        check_model(spec)
        note = (
            f"{hub} is not on this host: what its files would say is not known; embedfleet models pull {hub} fetches it"
        )
        return KnownModel(ModelFacts(max_tokens=spec.max_tokens or 0, note=note))
    facts = ModelFacts(
        max_tokens=min(spec.max_tokens or entry.max_tokens, entry.max_tokens),
        dim=entry.dim,
        parameters=entry.bytes // BYTES_A_PARAMETER,
        weight_bytes=entry.bytes,
        basis="published" if entry.bytes else "assumed",
        note=f"{hub} is not on this host: by the catalogue; embedfleet models pull {spec.model} fetches it",
    )
    return KnownModel(facts, prompt=entry.document_prompt if spec.prompt is None else spec.prompt)


def _in_folder(spec: PassSpec, files: ModelFiles) -> KnownModel:
    folder, entry = files.folder, catalog.find(files.name)
    parts = parts_of(folder)
    part = next(iter(backbones(parts)), parts[0])
    path = config_file(folder)
    config = _text_config(read_settings(path)) if path is not None else {}
    tensors = [
        (name, one)
        for each in dict.fromkeys(parts)
        for file in weight_files(folder, each)
        if (folder / file).is_file()
        for name, one in read_tensors(folder / file).items()
    ]
    hidden = _integer(config, "hidden_size", "d_model", "n_embd", "dim")
    facts = ModelFacts(
        max_tokens=_limit(spec, files, part, _positions(config, tensors), entry),
        dim=_dim(folder, parts, hidden, entry),
        parameters=sum(math.prod(one.shape) for _, one in tensors),
        table_parameters=sum(math.prod(one.shape) for name, one in tensors if _is_one_of(name, TABLES + POSITIONS)),
        layers=_integer(config, "num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        hidden=hidden,
        weight_bytes=sum(one.data_offsets[1] - one.data_offsets[0] for _, one in tensors),
        basis="counted",
    )
    prompt = spec.prompt
    if prompt is None:
        prompt = document_prompt(folder, declared_prompts(folder), entry.document_prompt if entry is not None else "")
    return KnownModel(facts, folder, part, prompt)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the part for texts, where a model has several."""
    inner: Any = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _integer(settings: dict[str, Any], *names: str) -> int:
    return next((settings[name] for name in names if isinstance(settings.get(name), int)), 0)


def _positions(config: dict[str, Any], tensors: Sequence[tuple[str, Tensor]]) -> int | None:
    """The most tokens for which the model has learned positions; None for one without, as with rotary positions."""
    rows = [one.shape[0] for name, one in tensors if _is_one_of(name, POSITIONS) and len(one.shape) == 2]
    if not rows:
        return None
    return min(rows) - (_integer(config, "pad_token_id") + 1 if config.get("model_type") in AFTER_PADDING else 0)


def _is_one_of(name: str, parts: Sequence[str]) -> bool:
    return any(part in name for part in parts)


def _limit(
    spec: PassSpec, files: ModelFiles, part: Part, positions: int | None, entry: catalog.CatalogEntry | None
) -> int:
    """The limit of tokens that a worker sets (`models/text_limits.py`), by the files; LONGEST for a model without one.

    ModelError, as a worker raises it, for a `--max-tokens` beyond it.
    """
    if part.name not in TRANSFORMERS:
        return LONGEST
    own = _own_limit(files.folder, part)
    if own is None or own > LONGEST:
        own = (entry.max_tokens if entry is not None else 0) or positions or 512
    own = min(own, positions or own)
    if spec.max_tokens is not None and spec.max_tokens > own:
        raise ModelError(f"{FLAGS[spec.kind]}: --max-tokens {spec.max_tokens}: {files.name} takes at most {own}")
    return own if spec.max_tokens is None else spec.max_tokens


def _own_limit(folder: Path, part: Part) -> int | None:
    """The limit in the model's settings, or that of its tokenizer."""
    place = folder / part.path
    for pattern in MOST_SETTINGS:
        for path in sorted(place.glob(pattern)):
            settings = read_settings(path)
            if found := _integer(settings, "document_length", "max_seq_length"):
                return found
    path = place / "tokenizer_config.json"
    most: Any = read_settings(path).get("model_max_length") if path.is_file() else None
    return int(most) if isinstance(most, int | float) else None


def _dim(folder: Path, parts: list[Part], hidden: int, entry: catalog.CatalogEntry | None) -> int:
    """Dimensions of a vector: those of the last part that names some, else of the hidden states."""
    dim = hidden or (entry.dim if entry is not None else 0)
    for part in parts:
        path = folder / part.file("config.json")
        settings = read_settings(path) if part.name in ("Dense", "Pooling") and path.is_file() else {}
        if part.name == "Pooling":
            modes = sum(value is True for name, value in settings.items() if name.startswith("pooling_mode_"))
            dim = (_integer(settings, "word_embedding_dimension", "embedding_dimension") or dim) * max(modes, 1)
        elif part.name == "Dense":
            dim = _integer(settings, "out_features") or dim
    return dim
