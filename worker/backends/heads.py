"""From a packed model's token vectors to the results of each kind of model, as sentence-transformers' modules name them.

Each function takes the model's modules and returns a `Packed`, or says why there is none. Modules that look at one row of
numbers at a time (`Dense`, `Normalize`, …) are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .pack import Pack
from .packed_model import Batch, PackedModel, cannot_pack
from .pooling import modes_of, pool
from .vocabulary import VocabularyTiles

Outputs = dict[str, Any]
Packed = Callable[[Pack], Outputs]
"""Computes a pack. In `outputs`: `sentence_embedding` (n, dim), `scores` (n, 1), or the packed `token_embeddings` (1, T, dim)
with `attention_mask` (1, T), `input_ids` (1, T), and `lengths` (n)."""

ROWWISE = ("Dense", "Normalize", "LayerNorm", "Dropout")
"""Modules whose result for a row of numbers depends on that row alone; the last two take pooled vectors only."""


def dense(route: Sequence[Any], device: torch.device, prompt_left_out: bool) -> Packed | str:
    """A transformer, a `Pooling`, and modules for the pooled vectors."""
    first, *rest = route
    names = [type(one).__name__ for one in rest]
    reason = _not_a_transformer(first, device)
    if reason or names[:1] != ["Pooling"] or not _are_rowwise(rest[1:], "sentence_embedding"):
        return reason or f"it has modules that need padding: {', '.join(names)}"
    if prompt_left_out:
        return "its pooling leaves out the prompt"
    model, modes = PackedModel(first.model), modes_of(rest[0])

    def compute(pack: Pack) -> Outputs:
        output, batch = model(pack, device)
        outputs: Outputs = {"sentence_embedding": pool(output.last_hidden_state[0], batch, modes)}
        for module in rest[1:]:
            outputs = module(outputs)
        return outputs

    return compute


def sparse(route: Sequence[Any], device: torch.device) -> Packed | str:
    """A masked language model and a `SpladePooling`."""
    first, *rest = route
    reason = _not_a_transformer(first, device)
    if reason or [type(one).__name__ for one in rest] != ["SpladePooling"]:
        return reason or "it is not a SPLADE model"
    if type(first.model.get_output_embeddings()) is not torch.nn.Linear:
        return "its last layer is not linear"
    model = PackedModel(first.model)
    tiles = VocabularyTiles(model.decoder(), rest[0])

    def compute(pack: Pack) -> Outputs:
        tiles.expect(torch.from_numpy(pack.lengths).to(device, torch.int64, non_blocking=True))
        output, _ = model(pack, device)
        return {"sentence_embedding": output.logits[0]}

    return compute


def multivector(route: Sequence[Any], device: torch.device) -> Packed | str:
    """A transformer and modules for its token vectors."""
    first, *rest = route
    reason = _not_a_transformer(first, device)
    if reason or not _are_rowwise([one for one in rest if not _is_mask(one)], "token_embeddings"):
        return reason or f"it has modules that need padding: {', '.join(type(one).__name__ for one in rest)}"
    tokens = tokens_of(first, device)

    def compute(pack: Pack) -> Outputs:
        outputs = tokens(pack)
        for module in rest:
            outputs = module(outputs, task="document") if _is_mask(module) else module(outputs)
        return outputs

    return compute


def heads(first: Any, device: torch.device) -> Packed | str:
    """The token vectors alone, for a model with several heads."""
    return _not_a_transformer(first, device) or tokens_of(first, device)


def tokens_of(first: Any, device: torch.device) -> Packed:
    """The token vectors of a transformer."""
    model = PackedModel(first.model)

    def compute(pack: Pack) -> Outputs:
        output, batch = model(pack, device)
        return {
            "token_embeddings": output.last_hidden_state,
            "attention_mask": torch.ones_like(batch.ids)[None],
            "input_ids": batch.ids[None],
            "lengths": batch.lengths,
        }

    return compute


def score(route: Sequence[Any], device: torch.device) -> Packed | str:
    """A sequence classifier of one label."""
    first, *rest = route
    reason = _not_a_transformer(first, device)
    if reason or rest:
        return reason or "it has modules after the classifier"
    classify = _classifier(first.model)
    if classify is None:
        return f"the head of {type(first.model).__name__} is computed with padding"
    model = PackedModel(first.model.base_model)

    def compute(pack: Pack) -> Outputs:
        output, batch = model(pack, device)
        return {"scores": classify(output.last_hidden_state[0], batch)}

    return compute


def _classifier(model: Any) -> Callable[[torch.Tensor, Batch], torch.Tensor] | None:
    """The model's own head, from the one token that it looks at: (n, 1) of (T, dim)."""
    match model.config.model_type:
        case "bert" | "gte" | "nomic_bert":
            pooler = model.base_model.pooler
            return lambda hidden, batch: model.classifier(pooler(hidden[batch.ends[:-1]][:, None]))
        case "roberta" | "xlm-roberta" | "camembert" | "electra":
            return lambda hidden, batch: model.classifier(hidden[batch.ends[:-1]][:, None])
        case "distilbert":
            return lambda hidden, batch: model.classifier(model.pre_classifier(hidden[batch.ends[:-1]]).relu())
        case "modernbert" if model.config.classifier_pooling == "cls":
            return lambda hidden, batch: model.classifier(model.head(hidden[batch.ends[:-1]]))
        case "qwen3" | "qwen2" | "llama" | "gemma3_text":
            return lambda hidden, batch: model.score(hidden[batch.ends[1:] - 1])
        case _:
            return None


def _not_a_transformer(first: Any, device: torch.device) -> str:
    if type(first).__name__ not in ("Transformer", "MLMTransformer"):
        return f"{type(first).__name__} is not a transformer"
    return cannot_pack(first.model, device)


def _are_rowwise(modules: Sequence[Any], name: str) -> bool:
    """Whether each reads and writes `name`, a row at a time."""
    of_pooled = "sentence_embedding"
    sides = [getattr(one, side, of_pooled) for one in modules for side in ("module_input_name", "module_output_name")]
    return all(type(one).__name__ in ROWWISE for one in modules) and all(one == name for one in sides)


def _is_mask(module: Any) -> bool:
    return type(module).__name__ == "MultiVectorMask"
