"""A loaded model as one module of torch: padded token ids and mask in, the numbers of its kind out.

Outputs are, by kind, all float32:

    dense         the vectors (n, dim)
    sparse        the weights (n, vocabulary)
    multivector   the token vectors (n, longest, dim)
    rerank        the scores (n, 1), before the activation
    bge-m3        token vectors (n, longest, dim), term weights (n, longest), and late-interaction vectors (n, longest, width)

and last, for each kind, the sum (n) of each text's token vectors before the head. A runtime may turn NaN
into a number (by a maximum or an exponential); in the sum it stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..backends.vocabulary import TILE

OF_TOKENS = ("Dense", "Normalize", "LayerNorm", "Dropout", "MultiVectorMask")
"""Modules that compute each token vector by itself."""
ACTIVATIONS = ("Identity", "Sigmoid", "NoneType")
"""Activations of scores that are computed outside the graph."""


class ModelGraph(torch.nn.Module):
    """The graph of an encoder for which `cannot_convert` returns no reason."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.steps: Any = torch.nn.ModuleList([one for one in encoder.route if type(one).__name__ != "MultiVectorMask"])
        self._kind = encoder.kind
        if self._kind == "bge-m3":
            self.layers: Any = torch.nn.ModuleList(encoder.layers)

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> tuple[Any, ...]:
        """The outputs for texts (n, longest)."""
        features = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        found, hidden = _COMPUTE[self._kind](self, features)
        kept = attention_mask.unsqueeze(-1).bool()
        return *found, hidden.float().masked_fill(~kept, 0.0).sum((1, 2))


def cannot_convert(encoder: Any) -> str:
    """Why the model cannot be converted; empty if it can."""
    if encoder.tokenizer is None:
        return "it tokenizes texts itself"
    if getattr(encoder.tokenizer, "split_special_tokens", False):
        return "its tokenizer takes special tokens apart"
    if encoder.takes_tasks:
        return "its modules take a task of their own"
    first, *rest = encoder.route
    names = [type(one).__name__ for one in rest]
    if type(first).__name__ not in ("Transformer", "MLMTransformer"):
        return f"{type(first).__name__} is not a transformer"
    if not type(first.model).__module__.startswith("transformers."):
        return "its code is its own"
    if not all(type(one).__module__.startswith("sentence_transformers.") for one in rest):
        return f"it has modules of its own: {', '.join(names)}"
    if not all(getattr(one, "include_prompt", True) for one in encoder.route):
        return "its pooling leaves out the prompt"
    return _head_cannot(encoder, first, names)


def _head_cannot(encoder: Any, first: Any, names: Sequence[str]) -> str:
    match encoder.kind:
        case "dense":
            return "" if "Pooling" in names else f"it does not pool tokens: {', '.join(names)}"
        case "sparse":
            linear = type(first.model.get_output_embeddings()) is torch.nn.Linear
            return "" if linear and names == ["SpladePooling"] else "it is not a SPLADE model"
        case "multivector":
            other = [one for one in names if one not in OF_TOKENS]
            return f"it has modules that see several tokens: {', '.join(other)}" if other else ""
        case "rerank":
            activation = type(encoder.activation).__name__
            if names or activation not in ACTIVATIONS:
                return f"it has modules after the scores: {', '.join([*names, activation])}"
            return ""
        case _:
            return ""


def _dense(graph: ModelGraph, features: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    first, *rest = graph.steps
    features = first(features)
    hidden = features["token_embeddings"]
    for step in rest:
        features = step(features)
    return (features["sentence_embedding"],), hidden


def _sparse(graph: ModelGraph, features: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """Reduce the decoder's logits over the tokens by tiles of the vocabulary, since all logits together are large."""
    first, pooling = graph.steps
    decoder = first.model.get_output_embeddings()
    mask = features["attention_mask"].unsqueeze(-1)
    seen: list[Any] = []

    def pooled(hidden: Any) -> Any:
        seen.append(hidden)
        return torch.cat([_tile(hidden, decoder, at, mask, pooling) for at in range(0, len(decoder.weight), TILE)], 1)

    before, decoder.forward = decoder.forward, pooled
    try:
        weights = first(features)["token_embeddings"]
    finally:
        decoder.forward = before
    return (weights,), seen[0]


def _tile(hidden: Any, decoder: Any, at: int, mask: Any, pooling: Any) -> Any:
    """As `SpladePooling`: with a mask of 0, a logit is 0, and so is its weight."""
    bias = None if decoder.bias is None else decoder.bias[at : at + TILE]
    logits = torch.nn.functional.linear(hidden, decoder.weight[at : at + TILE], bias) * mask
    largest = pooling.pooling_strategy == "max"
    if largest:  # the activation is monotonic, so it may follow the maximum
        logits = logits.amax(1)
    weights = logits.relu().log1p()
    if pooling.activation_function == "log1p_relu":
        weights = weights.log1p()
    return weights if largest else weights.sum(1)


def _multivector(graph: ModelGraph, features: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    first, *rest = graph.steps
    features = first(features)
    hidden = features["token_embeddings"]
    for step in rest:
        features = step(features)
    return (features["token_embeddings"],), hidden


def _rerank(graph: ModelGraph, features: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    (first,) = graph.steps
    seen: list[Any] = []

    def see(_model: Any, _inputs: Any, output: Any) -> None:
        seen.append(output[0])

    hook = first.model.base_model.register_forward_hook(see)
    try:
        scores = first(features)["scores"]
    finally:
        hook.remove()
    return (scores,), seen[0]


def _bge_m3(graph: ModelGraph, features: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    first = graph.steps[0]  # a pooling module may follow, which is not used
    hidden = first(features)["token_embeddings"]
    sparse, colbert = graph.layers
    return (hidden, sparse(hidden).squeeze(-1), colbert(hidden)), hidden


_COMPUTE: dict[str, Callable[[ModelGraph, dict[str, Any]], tuple[tuple[Any, ...], Any]]] = {
    "dense": _dense,
    "sparse": _sparse,
    "multivector": _multivector,
    "rerank": _rerank,
    "bge-m3": _bge_m3,
}
