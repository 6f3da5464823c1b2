"""Turn a packed model's token vectors into the results of each kind of model, under the names of sentence-transformers.

Each function takes the model's modules, and returns a `Packed` or the reason why there is none. Modules that compute one row of
numbers by itself (`Dense`, `Normalize`, …) are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..tokenizing.flat import Int32
from .pack import Pack
from .packed_model import Batch, PackedModel, cannot_pack
from .pooling import modes_of, pool
from .staging import Staging
from .vocabulary import VocabularyTiles

Outputs = dict[str, Any]
ROWWISE = ("Dense", "Normalize", "LayerNorm", "Dropout")
"""Modules whose result for a row of numbers depends on that row alone; the last two take pooled vectors only."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A forward pass without padding."""

    model: PackedModel
    compute: Callable[[Pack], Outputs]

    def __call__(self, pack: Pack) -> Outputs:
        """Compute a pack without waiting. On the device: `sentence_embedding` (n, dim), `scores` (n, 1), or what the docstrings
        of `multivector` and `heads` describe."""
        return self.compute(pack)


def dense(route: Sequence[Any], staging: Staging, prompt_left_out: bool) -> Packed | str:
    """A transformer, a `Pooling`, and modules for the pooled vectors."""
    first, *rest = route
    names = [type(one).__name__ for one in rest]
    reason = _not_a_transformer(first, staging)
    if reason or names[:1] != ["Pooling"] or not _are_rowwise(rest[1:], "sentence_embedding"):
        return reason or f"it has modules that need padding: {', '.join(names)}"
    if prompt_left_out:
        return "its pooling leaves out the prompt"
    model, modes = PackedModel(first.model, staging), modes_of(rest[0])

    def compute(pack: Pack) -> Outputs:
        batch = model.place(pack)
        output = model(batch)
        outputs: Outputs = {"sentence_embedding": pool(output.last_hidden_state[0], batch, modes)}
        for module in rest[1:]:
            outputs = module(outputs)
        return outputs

    return Packed(model, compute)


def sparse(route: Sequence[Any], staging: Staging) -> Packed | str:
    """A masked language model and a `SpladePooling`."""
    first, *rest = route
    reason = _not_a_transformer(first, staging)
    if reason or [type(one).__name__ for one in rest] != ["SpladePooling"]:
        return reason or "it is not a SPLADE model"
    if type(first.model.get_output_embeddings()) is not torch.nn.Linear:
        return "its last layer is not linear"
    model = PackedModel(first.model, staging)
    tiles = VocabularyTiles(model.decoder(), rest[0])

    def compute(pack: Pack) -> Outputs:
        batch = model.place(pack)
        tiles.expect(batch.lengths)
        return {"sentence_embedding": model(batch).logits[0]}

    return Packed(model, compute)


def multivector(route: Sequence[Any], staging: Staging) -> Packed | str:
    """A transformer and modules for its token vectors. `token_embeddings` (K, dim) are of the tokens that its masks keep, and
    `kept` (n, in host memory) has how many these are of each text."""
    first, *rest = route
    masks, others = [one for one in rest if _is_mask(one)], [one for one in rest if not _is_mask(one)]
    reason = _not_a_transformer(first, staging)
    if reason or not _are_rowwise(others, "token_embeddings"):
        return reason or f"it has modules that need padding: {', '.join(type(one).__name__ for one in rest)}"
    model = PackedModel(first.model, staging)

    def compute(pack: Pack) -> Outputs:
        mask = _kept(pack, masks)
        batch = model.place(pack, np.flatnonzero(mask).astype(np.int32))
        outputs: Outputs = {"token_embeddings": model(batch).last_hidden_state[0, batch.kept]}
        for module in others:
            outputs = module(outputs)
        outputs["kept"] = np.add.reduceat(mask, pack.ends[:-1], dtype=np.int64)
        return outputs

    return Packed(model, compute)


def _kept(pack: Pack, masks: Sequence[Any]) -> Int32:
    """Which tokens (T) of documents these `MultiVectorMask`s keep, computed on the host."""
    features: Outputs = {"input_ids": torch.from_numpy(pack.ids)[None].long()}
    features["attention_mask"] = torch.ones_like(features["input_ids"])
    for mask in masks:
        features = mask(features, task="document")
    return features["attention_mask"][0].int().numpy()


def heads(first: Any, staging: Staging) -> Packed | str:
    """Only the vectors of all tokens, for a model with several heads: `tokens` (T, dim); the places in it of each text's first
    token (`starts`, n) and of all `others` (T - n); in host memory, the `ids` (T) and the `lengths` (n)."""
    reason = _not_a_transformer(first, staging)
    if reason:
        return reason
    model = PackedModel(first.model, staging)

    def compute(pack: Pack) -> Outputs:
        others = np.ones(len(pack.ids), np.bool_)
        others[pack.ends[:-1]] = False
        batch = model.place(pack, np.flatnonzero(others).astype(np.int32))
        return {
            "tokens": model(batch).last_hidden_state[0],
            "starts": batch.ends[:-1],
            "others": batch.kept,
            "ids": pack.ids,
            "lengths": pack.lengths,
        }

    return Packed(model, compute)


def score(route: Sequence[Any], staging: Staging) -> Packed | str:
    """A sequence classifier of one label."""
    first, *rest = route
    reason = _not_a_transformer(first, staging)
    if reason or rest:
        return reason or "it has modules after the classifier"
    classify = _classifier(first.model)
    if classify is None:
        return f"the head of {type(first.model).__name__} is computed with padding"
    model = PackedModel(first.model.base_model, staging)

    def compute(pack: Pack) -> Outputs:
        batch = model.place(pack)
        return {"scores": classify(model(batch).last_hidden_state[0], batch)}

    return Packed(model, compute)


def _classifier(model: Any) -> Callable[[torch.Tensor, Batch], torch.Tensor] | None:
    """The model's own head, which uses one token of each text: (n, 1) from (T, dim)."""
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


def _not_a_transformer(first: Any, staging: Staging) -> str:
    if type(first).__name__ not in ("Transformer", "MLMTransformer"):
        return f"{type(first).__name__} is not a transformer"
    return cannot_pack(first.model, staging.device)


def _are_rowwise(modules: Sequence[Any], name: str) -> bool:
    """Whether each module reads and writes `name`, row by row."""
    of_pooled = "sentence_embedding"
    sides = [getattr(one, side, of_pooled) for one in modules for side in ("module_input_name", "module_output_name")]
    return all(type(one).__name__ in ROWWISE for one in modules) and all(one == name for one in sides)


def _is_mask(module: Any) -> bool:
    return type(module).__name__ == "MultiVectorMask"
