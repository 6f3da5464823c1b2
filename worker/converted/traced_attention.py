"""Attention for a graph: that of transformers, with a mask of numbers, so that a token that sees no other does not become NaN.

Beside a longer text, padding may see no token at all: on the left in a causal model, or beyond a window of tokens. A boolean
mask makes its vector NaN, and the next layer spreads that to the text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

NAME = "embedfleet_traced"
UNSEEN = -1e9
"""Added to the score of a token that is not seen. Beside any token that is seen, its weight is then exactly 0."""


@contextlib.contextmanager
def traced_attention(model: Any) -> Generator[None]:
    """Let a model of transformers use this attention, if it accepts such functions; others have masks of numbers already."""
    config = model.config
    before = config._attn_implementation
    if before == "sdpa" and getattr(model, "_supports_attention_backend", False):
        AttentionInterface.register(NAME, _attention)
        AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def _attention(module: Any, query: Any, key: Any, value: Any, mask: Any, *arguments: Any, **named: Any) -> Any:
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, UNSEEN)
    return sdpa_attention_forward(module, query, key, value, mask, *arguments, **named)
