"""A transformer that computes texts without padding."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..tokenizing.flat import Int32
from .fused_attention import fuse
from .pack import Pack
from .packed_attention import ENDS, LONGEST, NAME, register
from .staging import Staging

PACKABLE = frozenset(
    {
        *("bert", "camembert", "distilbert", "electra", "gte", "modernbert", "nomic_bert", "roberta", "xlm-roberta"),
        *("gemma3_text", "llama", "qwen2", "qwen3"),
    }
)
"""`model_type` of the architectures whose packed results the tests compare with padded ones."""
LARGEST_HEAD = 256
"""FlashAttention's largest dimension of an attention head."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A pack on the device."""

    ids: torch.Tensor
    """Token ids (T), int64."""
    positions: torch.Tensor
    """The position of each token in its text (T), int64, as the model counts."""
    types: torch.Tensor | None
    """Token types (T), int64; None: the model has none."""
    ends: torch.Tensor
    """Where each text begins, and the end of the last one (n + 1), int32."""
    lengths: torch.Tensor
    """Tokens of each text (n), int64."""
    longest: int
    """Tokens of the longest text."""
    kept: torch.Tensor
    """The places of the tokens that the caller chose (K), int64."""


class PackedModel:
    """The backbone of a model of `transformers`: a twin, which is a copy with the same weights and the packed attention.

    Threads may call it at the same time. No call waits for the device.
    """

    def __init__(self, model: Any, staging: Staging) -> None:
        register()
        self._staging = staging
        self._model = twin = twin_of(model)
        twin.config._attn_implementation = NAME
        if next(twin.parameters()).is_cuda:
            fuse(twin)
        self._offset = position_offset(model)
        self._takes = inspect.signature(model.forward).parameters
        self._has_types = any("token_type" in name for name, _ in model.named_parameters())

    @property
    def backbone(self) -> Any:
        """The part of the twin that computes token vectors."""
        return self._model.base_model

    def decoder(self) -> Any:
        """Its last layer, if it is a masked language model."""
        return self._model.get_output_embeddings()

    def place(self, pack: Pack, kept: Int32 | None = None) -> Batch:
        """The pack on the device, with the chosen tokens, if the caller needs any. It is one copy."""
        parts = {"ids": pack.ids, "positions": pack.positions + np.int32(self._offset)}
        parts |= {"ends": pack.ends, "lengths": pack.lengths}
        parts["kept"] = kept if kept is not None else np.empty(0, np.int32)
        if self._has_types and pack.types is not None:
            parts["types"] = pack.types
        whole, sizes = self._staging.upload([*parts.values()]), [len(one) for one in parts.values()]
        narrow, wide = (dict(zip(parts, one.split(sizes), strict=True)) for one in (whole, whole.long()))
        types = wide.get("types", torch.zeros_like(wide["ids"])) if self._has_types else None
        return Batch(
            ids=wide["ids"],
            positions=wide["positions"],
            types=types,
            ends=narrow["ends"],
            lengths=wide["lengths"],
            longest=int(pack.lengths.max()),
            kept=wide["kept"],
        )

    def __call__(self, batch: Batch) -> Any:
        """The model's output, with a first dimension of 1."""
        named: dict[str, Any] = {
            ENDS: batch.ends,
            "cu_seq_lens_k": batch.ends,
            LONGEST: batch.longest,
            "max_length_k": batch.longest,
        }
        if batch.types is not None:
            named["token_type_ids"] = batch.types[None]
        if "use_cache" in self._takes:
            named["use_cache"] = False
        return self._model(input_ids=batch.ids[None], position_ids=batch.positions[None], attention_mask=None, **named)


def cannot_pack(model: Any, device: torch.device) -> str:
    """Why this model cannot compute texts without padding; empty if it can."""
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if not type(model).__module__.startswith("transformers.") or kind not in PACKABLE:
        return f"{kind} models are computed with padding"
    if not getattr(model, "_supports_attention_backend", False):
        return f"{type(model).__name__} has an attention of its own"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation}"
    if device.type != "cuda":
        return ""
    heads = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if next(model.parameters()).dtype not in (torch.float16, torch.bfloat16):
        return "FlashAttention takes half precision only"
    return f"attention heads of {heads} dimensions" if heads > LARGEST_HEAD or heads % 8 else ""


def twin_of(module: Any) -> Any:
    """A copy of a module with other settings, and with the same tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(one): one for one in tensors})


def position_offset(model: Any) -> int:
    """The position of a text's first token: 0 for most models. RoBERTa and the like count from the pad id + 1: they have an
    integer `padding_idx` beside a table of learned positions."""
    for one in model.modules():
        pad = getattr(one, "padding_idx", None)
        if isinstance(pad, int) and isinstance(getattr(one, "position_embeddings", None), torch.nn.Embedding):
            return pad + 1
    return 0
