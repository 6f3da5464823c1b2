"""Encode queries by numpy, for a model whose folder describes it in a known form.

The results are those of sentence-transformers' `encode_query`, up to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.spec import catalog
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.arrays import Array
from ..encoders.base import FloatArray, kept_dim
from ..models.kind_check import check_kind
from ..models.locate import ModelFiles
from ..models.parts import ADAPTER, TRANSFORMERS, Part, named_modules, read_settings, weight_files
from ..models.text_limits import LONGEST
from ..models.texts import query_prompt
from .bert import Bert
from .layers import unit
from .modules import MODES, Expansion, Module, dense, expansion_of, mask, normalize, pooling, splade
from .not_plain import NotPlain, require, require_only
from .tokenizer import PlainTokenizer
from .weights import WeightFile

TASKS = {"sparse": "fill-mask"}
"""The task for which the transformer of a kind is loaded; for other kinds, it is feature-extraction."""
FAMILIES = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "multivector": "MultiVectorEncoder"}
"""The class of sentence-transformers that saved a model of the kind."""
SETTINGS = "sentence_bert_config.json"
MODEL_SETTINGS = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class Limits:
    """The most tokens of a query, and how it is expanded."""

    tokens: int
    expansion: Expansion | None


class PlainEncoder:
    """Encodes queries of a dense, sparse or late-interaction model. NotPlain if the model is not known here."""

    def __init__(self, spec: PassSpec, files: ModelFiles) -> None:
        folder = files.folder
        require(spec.kind in ("dense", "sparse", "multivector"), f"{spec.kind} models are not known")
        require(not spec.trust_remote_code, "it may bring code of its own")
        check_kind(spec.kind, folder, files.name)
        first, *rest = _parts(folder, spec.kind)
        own = _model_settings(folder, spec.kind)
        self._spec = spec
        settings = _transformer_settings(folder, first, spec.kind)
        weights = weight_files(folder, first)
        require(len(weights) == 1 and not (folder / first.file(ADAPTER)).is_file(), "its weights are in several files")
        self._tokenizer = PlainTokenizer(folder / first.path)
        self._model = Bert(read_settings(folder / first.file("config.json")), WeightFile(folder / weights[0]))
        self._head = self._model.vocabulary_head() if spec.kind == "sparse" else None
        self._limits = _limits(spec, settings, self._tokenizer.model_max_length, self._model.positions, files.name)
        self._modules = _modules(folder, spec.kind, rest)
        self._most = spec.max_active_dims if spec.max_active_dims is not None else own.get("max_active_dims")
        self._prompt = spec.query_prompt if spec.query_prompt is not None else query_prompt(folder, files.name)
        limit = f" max_active_dims={self._most}" if self._most is not None else ""
        self.pooling = " → ".join(("Transformer", *(one.description for one in self._modules))) + limit
        """The description of the modules, as a fingerprint has it."""

    def queries(self, texts: Sequence[str]) -> tuple[list[Any], list[int]]:
        """The result of each text, in the form of the kind's encoder, and how many of its tokens were cut off."""
        found, cut = list[Any](), list[int]()
        for text in texts:
            ids, lost = self._tokenizer(self._prompt + text, self._limits.tokens)
            with np.errstate(all="ignore"):  # the caller refuses a result that is not finite
                found.append(self._result(ids))
            cut.append(lost)
        return found, cut

    def _result(self, ids: list[int]) -> Any:
        seen = None
        if (expansion := self._limits.expansion) is not None:
            if not expansion.is_seen:
                seen = np.arange(expansion.length) < len(ids)
            ids = ids + [self._tokenizer.mask_id] * (expansion.length - len(ids))
        values = self._model(ids, seen)
        if self._head is not None:
            values = self._head(values)
        for module in self._modules:
            values = module.step(values)
        match self._spec.kind:
            case "dense":
                return unit(values[: kept_dim(self._spec, len(values))])
            case "sparse":
                return _active(values, self._most)
            case _:
                return values


def plain_encoder(spec: PassSpec, files: ModelFiles) -> PlainEncoder | str:
    """The encoder of a model, or the reason why there is none."""
    try:
        return PlainEncoder(spec, files)
    except NotPlain as reason:
        return str(reason)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # settings of another form
        return f"its files cannot be read ({type(error).__name__})"


def _parts(folder: Path, kind: str) -> list[Part]:
    """The transformer, and the modules after it."""
    named = named_modules(folder)
    if named is None:
        require(kind != "multivector", "no modules.json describes it")
        return [Part("sentence_transformers.models.Transformer", "")]
    others = [one.type for one in named if not one.type.startswith("sentence_transformers.")]
    require(not others, f"it has a {others[0] if others else ''}")
    require(named[0].name in TRANSFORMERS and named[0].name != "CLIPModel", f"it begins with a {named[0].name}")
    return named


def _model_settings(folder: Path, kind: str) -> dict[str, Any]:
    """The settings of the whole model; empty for a folder that transformers alone saved."""
    path = folder / MODEL_SETTINGS
    if named_modules(folder) is None:
        return {}
    settings = read_settings(path) if path.is_file() else {}
    family = settings.get("model_type", FAMILIES["dense"])
    require(family == FAMILIES[kind], f"it was saved as a {family}")
    known = ("__version__", "prompts", "default_prompt_name", "similarity_fn_name", "model_type")
    require_only(settings, (*known, *(("max_active_dims",) if kind == "sparse" else ())), MODEL_SETTINGS)
    return settings


def _transformer_settings(folder: Path, first: Part, kind: str) -> dict[str, Any]:
    """The settings of sentence-transformers for its Transformer."""
    others = [one for one in (folder / first.path).glob("sentence_*_config.json") if one.name != SETTINGS]
    require(not others, f"it has a {others[0].name if others else ''}")
    path = folder / first.file(SETTINGS)
    settings = read_settings(path) if path.is_file() else {}
    known = ("max_seq_length", "query_length", "document_length", "query_expansion")
    require_only(settings, (*known, "transformer_task", "modality_config", "module_output_name"), SETTINGS)
    task = TASKS.get(kind, "feature-extraction")
    assumed = task if first.name == "MLMTransformer" or named_modules(folder) is None else "feature-extraction"
    found = settings.get("transformer_task", assumed)
    require(found == task, f"it is made for {found}")
    require(settings.get("modality_config", {"text": 0}).keys() == {"text"}, "it is not for texts alone")
    require(settings.get("module_output_name", "token_embeddings") == "token_embeddings", "it has another output")
    return settings


def _limits(spec: PassSpec, settings: dict[str, Any], tokenizers: int, positions: int, name: str) -> Limits:
    """The limits that `TextModel` and sentence-transformers set for a query."""
    own = min(int(settings.get("max_seq_length") or tokenizers), positions)
    if settings.get("document_length") is None:
        entry = catalog.find(name)
        if (settings.get("max_seq_length") or 0) > LONGEST and entry is not None:
            own = min(entry.max_tokens, positions)
        if spec.max_tokens is not None:
            require(spec.max_tokens <= own, f"--max-tokens {spec.max_tokens} is more than it takes")
            own = spec.max_tokens
    expansion = expansion_of(settings) if spec.kind == "multivector" else None
    if expansion is not None:
        return Limits(expansion.length, expansion)
    return Limits(int(settings.get("query_length") or own), None)


def _modules(folder: Path, kind: str, rest: list[Part]) -> list[Module]:
    """The modules after the transformer; without modules.json, those that sentence-transformers assumes."""
    if kind == "sparse":
        require([one.name for one in rest] in ([], ["SpladePooling"]), "it is not a SPLADE model")
        return [splade(folder, rest[0] if rest else None)]
    if kind == "dense":
        if not rest:
            require(named_modules(folder) is None, "it has no pooling")
            return [Module(MODES["mean"], "Pooling(mean)")]
        require(rest[0].name == "Pooling", f"a {rest[0].name} follows its transformer")
        return [pooling(folder, rest[0]), *(_of_vectors(folder, one, "sentence_embedding") for one in rest[1:])]
    require("MultiVectorMask" in [one.name for one in rest], "nothing says which tokens count")
    return [_of_vectors(folder, one, "token_embeddings") for one in rest]


def _of_vectors(folder: Path, part: Part, of: str) -> Module:
    match part.name:
        case "Dense":
            return dense(folder, part, of)
        case "Normalize":
            return normalize(folder, part, of)
        case "MultiVectorMask" if of == "token_embeddings":
            return mask(folder, part)
        case _:
            raise NotPlain(f"it has a {part.name}")


def _active(weights: FloatArray, most: int | None) -> tuple[Array, Array]:
    """The `most` largest weights other than 0, in order of their indices. NaN is kept, so that it is reported."""
    kept = np.flatnonzero(weights)
    if most is not None and len(kept) > most:
        kept = np.sort(kept[np.argsort(-weights[kept], kind="stable")[:most]])
    return kept.astype(np.uint32), weights[kept]
