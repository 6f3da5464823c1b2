"""Attention over texts that lie one after the other: each token sees its own text only.

It is registered with transformers under NAME, as an attention function of its models. Two kernels: FlashAttention as torch
has it on a GPU (Dao 2023, "FlashAttention-2"), and an exact loop over the texts on a CPU. transformers makes no mask for an
attention function that it does not know, so none is ever allocated.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby
from typing import Any

NAME = "embedfleet_packed"
ENDS = "cu_seq_lens_q"
"""The argument of transformers' models that reaches the attention: where each text begins, and the end of the last."""
LONGEST = "max_length_q"
NO_LIMIT = -1
"""How far a token may look to one side: as far as its text goes."""


def register(torch: Any) -> None:
    """Make NAME known to torch and transformers. May be called again."""
    from transformers import AttentionInterface

    if NAME in AttentionInterface().valid_keys():
        return
    tensor = torch.Tensor

    def attend(q: tensor, k: tensor, v: tensor, ends: tensor, longest: int, scale: float, left: int, right: int) -> tensor:
        return _on_cpu(torch, q, k, v, ends, scale, left, right)

    attend.__annotations__ = {
        **dict.fromkeys(("q", "k", "v", "ends", "return"), tensor),
        **{"longest": int, "scale": float, "left": int, "right": int},
    }
    operator = torch.library.custom_op(f"embedfleet::{NAME}", attend, mutates_args=(), device_types="cpu")

    def on_cuda(q: Any, k: Any, v: Any, ends: Any, longest: int, scale: float, left: int, right: int) -> Any:
        sides = (None if left == NO_LIMIT else left, None if right == NO_LIMIT else right)
        flash = torch.ops.aten._flash_attention_forward
        causal = right == 0 and left == NO_LIMIT
        found = flash(
            q, k, v, ends, ends, longest, longest, 0.0, causal, False,
            scale=scale, window_size_left=sides[0], window_size_right=sides[1],
        )  # fmt: skip
        return found[0]

    operator.register_kernel("cuda", on_cuda)
    operator.register_fake(lambda q, k, v, ends, longest, scale, left, right: torch.empty_like(q))

    def attention(
        module: Any,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any,
        scaling: float | None = None,
        sliding_window: int | None = None,
        is_causal: bool | None = None,
        **named: Any,
    ) -> tuple[Any, None]:
        causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
        # transformers counts the token itself, FlashAttention those beside it.
        window = NO_LIMIT if sliding_window is None else sliding_window - 1
        q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))  # models give (1, heads, T, head dimension)
        scale = scaling if scaling is not None else float(q.shape[-1]) ** -0.5
        found = operator(q, k, v, named[ENDS], named[LONGEST], scale, window, 0 if causal else window)
        return found[None], None

    AttentionInterface.register(NAME, attention)


@contextlib.contextmanager
def packed_attention(config: Any) -> Iterator[None]:
    """Let the model of this config attend by NAME."""
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def _on_cpu(torch: Any, q: Any, k: Any, v: Any, ends: Any, scale: float, left: int, right: int) -> Any:
    """(T, heads, dimension): text by text; neighbours of one length together."""
    found = torch.empty((*q.shape[:2], v.shape[2]), dtype=q.dtype)
    starts = ends.tolist()
    lengths = [end - start for start, end in zip(starts, starts[1:], strict=False)]
    at = 0
    for length, same in groupby(lengths):
        count = len(list(same))
        upto = at + count * length
        apart = [one[at:upto].view(count, length, *one.shape[1:]).transpose(1, 2) for one in (q, k, v)]
        out = torch.nn.functional.scaled_dot_product_attention(
            *apart, attn_mask=_window(torch, length, left, right), scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
        found[at:upto].view(count, length, *found.shape[1:]).copy_(out.transpose(1, 2))
        at = upto
    return found


def _window(torch: Any, length: int, left: int, right: int) -> Any:
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
