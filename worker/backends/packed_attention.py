"""Attention over texts that are joined one after the other: each token sees its own text only.

It is registered with transformers under NAME, as an attention function of its models. Two kernels: FlashAttention as torch
has it on a GPU (Dao 2023, "FlashAttention-2"), and an exact loop over the texts on a CPU. transformers makes no mask for an
attention function that it does not know, so none is ever allocated.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import torch
from transformers import AttentionInterface

NAME = "embedfleet_packed"
ENDS = "cu_seq_lens_q"
"""The argument of transformers' models that reaches the attention: where each text begins, and the end of the last."""
LONGEST = "max_length_q"
NO_LIMIT = -1
"""For the tokens that a token sees on one side: no limit but its own text."""
SCHEMA = "(Tensor q, Tensor k, Tensor v, Tensor ends, SymInt longest, float scale, int left, int right) -> Tensor"
"""`longest` is symbolic: as a plain `int`, torch.compile would compile anew for each length of the longest text."""


def register() -> None:
    """Make `attention` known to transformers as NAME."""
    AttentionInterface.register(NAME, attention)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' models call: query, key and value are (1, heads, T, head dimension)."""
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    # transformers counts the token itself, FlashAttention those beside it.
    window = NO_LIMIT if sliding_window is None else sliding_window - 1
    q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))
    scale = scaling if scaling is not None else float(q.shape[-1]) ** -0.5
    found = _attend(q, k, v, named[ENDS], named[LONGEST], scale, window, 0 if causal else window)
    return found[None], None


@torch.library.custom_op("embedfleet::packed_attention", mutates_args=(), device_types="cpu", schema=SCHEMA)
def _attend(q: Any, k: Any, v: Any, ends: Any, _longest: int, scale: float, left: int, right: int) -> Any:
    """Text by text; neighbours of one length together."""
    found = torch.empty((*q.shape[:2], v.shape[2]), dtype=q.dtype)
    lengths = [end - start for start, end in pairwise(ends.tolist())]
    at = 0
    for length, same in groupby(lengths):
        count = len(list(same))
        upto = at + count * length
        apart = [one[at:upto].view(count, length, *one.shape[1:]).transpose(1, 2) for one in (q, k, v)]
        out = torch.nn.functional.scaled_dot_product_attention(
            *apart, attn_mask=_window(length, left, right), scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        found[at:upto].view(count, length, *found.shape[1:]).copy_(out.transpose(1, 2))
        at = upto
    return found


def _attend_on_cuda(q: Any, k: Any, v: Any, ends: Any, longest: int, scale: float, left: int, right: int) -> Any:
    causal = (left, right) == (NO_LIMIT, 0)
    sides = [None if side == NO_LIMIT else side for side in (left, right)]
    flash = torch.ops.aten._flash_attention_forward
    found = flash(
        *(q, k, v, ends, ends, longest, longest, 0.0, causal, False),
        scale=scale,
        window_size_left=sides[0],
        window_size_right=sides[1],
    )
    return found[0].contiguous()  # as `_attend_of_shapes` says


_attend.register_kernel("cuda")(_attend_on_cuda)


@_attend.register_fake
def _attend_of_shapes(q: Any, _k: Any, v: Any, *_others: Any) -> Any:
    return q.new_empty((*q.shape[:2], v.shape[2]))


def _window(length: int, left: int, right: int) -> torch.Tensor | None:
    """Which tokens (rows) of a text see which (columns); None if all see all."""
    if all(side == NO_LIMIT or side >= length - 1 for side in (left, right)):
        return None
    place = torch.arange(length)
    ahead = place[None, :] - place[:, None]
    seen = torch.ones((length, length), dtype=torch.bool)
    if left != NO_LIMIT:
        seen &= ahead >= -left
    if right != NO_LIMIT:
        seen &= ahead <= right
    return seen
