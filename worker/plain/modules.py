"""The modules after the transformer in a model's folder: pooling, projections, and the expansion of queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..encoders.base import FloatArray
from ..models.parts import WHOLE, Part, read_settings
from .layers import Linear, relu, unit
from .not_plain import NotPlain, require, require_only
from .weights import WeightFile

Step = Callable[[FloatArray], FloatArray]
MODES: dict[str, Step] = {
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(axis=0),
    "mean": lambda tokens: tokens.mean(axis=0),
    "lasttoken": lambda tokens: tokens[-1],
}
LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The names of the modes in older files, in the order of their results."""
ACTIVATIONS: dict[str, Step] = {
    "torch.nn.modules.linear.Identity": lambda rows: rows,
    "torch.nn.modules.activation.Tanh": np.tanh,
}
WIDTHS = ("word_embedding_dimension", "embedding_dimension")


@dataclass(frozen=True, slots=True)
class Module:
    """One module as a function, and its name in a fingerprint."""

    step: Step
    description: str


def pooling(folder: Path, part: Part) -> Module:
    """The pooling of token vectors (tokens, dim) to one (dim)."""
    settings = read_settings(folder / part.file("config.json"))
    require_only(settings, (*WIDTHS, "pooling_mode", "include_prompt", *LEGACY), "Pooling")
    require(settings.get("include_prompt", True) is True, "its pooling leaves out the prompt")
    mode: Any = settings.get("pooling_mode")
    if mode is None:
        named = [one for key, one in LEGACY.items() if settings.get(key)]
        require(len(named) <= 1, "it has several poolings")
        mode = named[0] if named else "mean"
    require(isinstance(mode, str) and mode in MODES, f"its pooling is {mode}")
    return Module(MODES[mode], f"Pooling({mode})")


def dense(folder: Path, part: Part, of: str) -> Module:
    """A projection of the vectors that are named `of`."""
    settings = read_settings(folder / part.file("config.json"))
    known = ("in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name")
    require_only(settings, known, "Dense")
    name = settings.get("module_input_name", "sentence_embedding")
    require(name == of == (settings.get("module_output_name") or name), f"its Dense is for {name}")
    activation = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    require(activation in ACTIVATIONS, f"its Dense has the activation {activation}")
    require((folder / part.file(WHOLE)).is_file(), "its Dense has no safetensors weights")
    weights = WeightFile(folder / part.file(WHOLE))
    bias = weights("linear.bias") if settings.get("bias", True) else None
    linear, activate = Linear(weights("linear.weight"), bias), ACTIVATIONS[activation]
    return Module(lambda rows: activate(linear(rows)), "Dense")


def normalize(folder: Path, part: Part, of: str) -> Module:
    """Scale the vectors that are named `of` to length 1."""
    path = folder / part.file("config.json")
    settings = read_settings(path) if part.path and path.is_file() else {}
    name = settings.get("module_input_name", "sentence_embedding")
    require(name == of == (settings.get("module_output_name") or name), f"its Normalize is for {name}")
    return Module(unit, "Normalize")


def splade(folder: Path, part: Part | None) -> Module:
    """From logits (tokens, vocabulary) to weights (vocabulary)."""
    settings = read_settings(folder / part.file("config.json")) if part is not None else {}
    require_only(settings, (*WIDTHS, "pooling_strategy", "activation_function", "chunk_size"), "SpladePooling")
    strategy, activation = settings.get("pooling_strategy", "max"), settings.get("activation_function", "relu")
    require(
        strategy in ("max", "sum") and activation in ("relu", "log1p_relu"), f"it pools by {strategy}, {activation}"
    )

    def weights(logits: FloatArray) -> FloatArray:
        if strategy == "max":  # the activation is monotonic, so it may follow the maximum
            return activate(logits.max(axis=0))
        return activate(logits).sum(axis=0)

    def activate(logits: FloatArray) -> FloatArray:
        once = np.log1p(relu(logits))
        return np.log1p(once) if activation == "log1p_relu" else once

    return Module(weights, f"SpladePooling({strategy}, {activation})")


def mask(folder: Path, part: Part) -> Module:
    """A MultiVectorMask, which keeps all tokens of a query."""
    settings = read_settings(folder / part.file("config.json"))
    require_only(settings, ("skiplist_words", "skiplist_tasks", "keep_only_token_ids"), "MultiVectorMask")
    tasks: Any = settings.get("skiplist_tasks") or ["document"]
    require("query" not in tasks, "it leaves out tokens of queries")
    return Module(lambda rows: rows, f"MultiVectorMask({len(settings.get('skiplist_words') or [])} skipped)")


@dataclass(frozen=True, slots=True)
class Expansion:
    """Mask tokens that are appended to a query until it has `length` tokens."""

    length: int
    is_seen: bool
    """Whether the query's own tokens attend to them."""


def expansion_of(settings: dict[str, Any]) -> Expansion | None:
    """The expansion of a late-interaction model's queries; None if it has none."""
    found: Any = settings.get("query_expansion")
    if not found:
        return None
    if found.get("strategy") != "fixed" or found.get("token") is not None:
        raise NotPlain("its queries are expanded in a way of their own")
    return Expansion(int(found["length"]), bool(found.get("attend", False)))
