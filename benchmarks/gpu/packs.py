"""Packs of random tokens, and their mean vectors in both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from embedfleet.worker.backends.pack import Pack
from embedfleet.worker.backends.packed_model import PackedModel


def lengths_of(tokens: int, length: str, seed: int = 3) -> np.ndarray:
    """Lengths of texts that have about `tokens` tokens together: all alike, or `mixed` (20 to 400, log-uniform)."""
    if length != "mixed":
        return np.full(max(1, tokens // int(length)), int(length), np.int32)
    drawn = np.exp(np.random.default_rng(seed).uniform(np.log(20), np.log(400), 1 + tokens // 20)).astype(np.int32)
    kept = drawn[: max(1, int(np.searchsorted(np.cumsum(drawn), tokens)))]
    return np.sort(kept)[::-1].copy()


def pack_of(lengths: np.ndarray, seed: int = 5) -> Pack:
    """Texts of random tokens."""
    ids = np.random.default_rng(seed).integers(1_000, 30_000, int(lengths.sum())).astype(np.int32)
    return Pack(ids, None, lengths)


def packed(model: PackedModel, pack: Pack) -> torch.Tensor:
    """The texts' mean vectors (n, dim) without padding."""
    batch = model.place(pack)
    hidden = model(batch).last_hidden_state[0]
    return torch.segment_reduce(hidden.float(), "mean", lengths=batch.lengths, unsafe=True)


def padded(model: Any, pack: Pack, device: torch.device) -> torch.Tensor:
    """The same with padding to the longest, as sentence-transformers computes them."""
    mask = torch.arange(int(pack.lengths.max())) < torch.from_numpy(pack.lengths.astype(np.int64))[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.int64)
    ids[mask] = torch.from_numpy(pack.ids.astype(np.int64))
    mask = mask.to(device)
    hidden = model(input_ids=ids.to(device), attention_mask=mask.long()).last_hidden_state.float()
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
