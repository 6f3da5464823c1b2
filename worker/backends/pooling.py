"""Pooling of the token vectors of joined texts: the modes of sentence-transformers' `Pooling`, in its order."""

from __future__ import annotations

from typing import Any

import torch

from .packed_model import Batch


def modes_of(pooling: Any) -> tuple[str, ...]:
    """The modes of a `Pooling` module, whose results are concatenated."""
    mode = pooling.pooling_mode
    return (mode,) if isinstance(mode, str) else tuple(mode)


def pool(hidden: torch.Tensor, batch: Batch, modes: tuple[str, ...]) -> torch.Tensor:
    """(n, modes x dim) from the token vectors (T, dim). Sums are float32, as in the reference; nothing waits for the device."""
    return torch.cat([_pooled(hidden, batch, mode) for mode in modes], dim=1)


def _pooled(hidden: torch.Tensor, batch: Batch, mode: str) -> torch.Tensor:
    starts, lengths = batch.ends[:-1], batch.lengths
    match mode:
        case "cls":
            return hidden[starts]
        case "lasttoken":
            return hidden[batch.ends[1:] - 1]
        case "max":
            return torch.segment_reduce(hidden, "max", lengths=lengths, unsafe=True)
        case "mean":
            return torch.segment_reduce(hidden.float(), "mean", lengths=lengths, unsafe=True).to(hidden.dtype)
        case "mean_sqrt_len_tokens":
            total = torch.segment_reduce(hidden.float(), "sum", lengths=lengths, unsafe=True)
            return (total / lengths[:, None].sqrt()).to(hidden.dtype)
        case "weightedmean":
            first = torch.repeat_interleave(starts, lengths, output_size=len(hidden))
            weights = (torch.arange(len(hidden), device=hidden.device) - first + 1).float()
            total = torch.segment_reduce(hidden.float() * weights[:, None], "sum", lengths=lengths, unsafe=True)
            return (total / (lengths * (lengths + 1) / 2)[:, None]).to(hidden.dtype)
        case _:
            raise ValueError(f"no such pooling: {mode}")
