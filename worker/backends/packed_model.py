"""A transformer that computes texts without padding."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch

from .pack import Pack
from .packed_attention import ENDS, LONGEST, NAME, register

PACKABLE = frozenset(
    {
        *("bert", "camembert", "distilbert", "electra", "gte", "modernbert", "nomic_bert", "roberta", "xlm-roberta"),
        *("gemma3_text", "llama", "qwen2", "qwen3"),
    }
)
"""`model_type` of the architectures whose packed results the tests hold to the padded ones."""
LARGEST_HEAD = 256
"""FlashAttention's largest dimension of an attention head."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A pack on the device."""

    ids: torch.Tensor
    """Token ids (T), int64."""
    ends: torch.Tensor
    """Where each text begins, and the end of the last one (n + 1), int32."""
    lengths: torch.Tensor
    """Tokens of each text (n), int64."""


class PackedModel:
    """The backbone of a model of `transformers`: a twin, which shares its weights and has the packed attention.

    Threads may call it at the same time.
    """

    def __init__(self, model: Any) -> None:
        register()
        self._model = twin = twin_of(model)
        twin.config._attn_implementation = NAME
        self._offset = position_offset(model)
        self._takes = inspect.signature(model.forward).parameters
        self._has_types = any("token_type" in name for name, _ in model.named_parameters())

    def decoder(self) -> Any:
        """Its last layer, if it is a masked language model."""
        return self._model.get_output_embeddings()

    def __call__(self, pack: Pack, device: torch.device) -> tuple[Any, Batch]:
        """The model's output, with a first dimension of 1, and the batch on the device. Waits for nothing."""
        batch = Batch(
            torch.from_numpy(pack.ids).to(device, torch.int64, non_blocking=True),
            torch.from_numpy(pack.ends).to(device, non_blocking=True),
            torch.from_numpy(pack.lengths).to(device, torch.int64, non_blocking=True),
        )
        longest = int(pack.lengths.max())
        named: dict[str, Any] = {
            ENDS: batch.ends,
            "cu_seq_lens_k": batch.ends,
            LONGEST: longest,
            "max_length_k": longest,
        }
        if self._has_types:
            types = torch.zeros_like(batch.ids) if pack.types is None else torch.from_numpy(pack.types).to(batch.ids)
            named["token_type_ids"] = types[None]
        if "use_cache" in self._takes:
            named["use_cache"] = False
        positions = torch.from_numpy(pack.positions).to(batch.ids) + self._offset
        output = self._model(input_ids=batch.ids[None], position_ids=positions[None], attention_mask=None, **named)
        return output, batch


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
    """The position of a text's first token: 0 for most models. RoBERTa and its kin count from the pad id + 1: they have an
    integer `padding_idx` beside a table of learned positions."""
    for one in model.modules():
        pad = getattr(one, "padding_idx", None)
        if isinstance(pad, int) and isinstance(getattr(one, "position_embeddings", None), torch.nn.Embedding):
            return pad + 1
    return 0
