"""SPLADE's weights, by tiles of the vocabulary.

A token has a logit for each entry of the vocabulary: in bfloat16, 250 MB for 4,096 tokens and 30,522 entries, which would be
written once and read again. Here one tile of the vocabulary at a time is computed and reduced.
"""

from __future__ import annotations

import threading
from typing import Any

import torch

TILE = 4_096
"""Entries of the vocabulary at a time."""


class VocabularyTiles:
    """In place of a masked language model's last layer: returns the weights (1, n, vocabulary) that `SpladePooling` would make
    of its logits (1, T, vocabulary).

    `lengths` (n) is set before each forward pass, by the thread that runs it.
    """

    def __init__(self, decoder: Any, pooling: Any) -> None:
        self._decoder, self._pooling = decoder, pooling
        self._of_thread = threading.local()
        decoder.forward = self._forward

    def expect(self, lengths: torch.Tensor) -> None:
        """Set the tokens of each text of this thread's next forward pass."""
        self._of_thread.lengths = lengths

    def _forward(self, hidden: torch.Tensor) -> torch.Tensor:
        decoder = self._decoder
        return weights_of(hidden[0], self._of_thread.lengths, decoder.weight, decoder.bias, self._pooling)[None]


def weights_of(hidden: torch.Tensor, lengths: torch.Tensor, weight: Any, bias: Any, pooling: Any) -> torch.Tensor:
    """(n, vocabulary) of the token vectors (T, dim). `weight` (vocabulary, dim), `bias` (vocabulary) or None."""
    twice, largest = pooling.activation_function == "log1p_relu", pooling.pooling_strategy == "max"
    tiles: list[torch.Tensor] = []
    for at in range(0, len(weight), TILE):
        logits = torch.nn.functional.linear(
            hidden, weight[at : at + TILE], None if bias is None else bias[at : at + TILE]
        )
        if largest:  # the activation is monotonic, so it may follow the maximum
            tiles.append(_activated(torch.segment_reduce(logits, "max", lengths=lengths, unsafe=True), twice))
        else:
            tiles.append(torch.segment_reduce(_activated(logits, twice), "sum", lengths=lengths, unsafe=True))
    return torch.cat(tiles, dim=1)


def _activated(logits: torch.Tensor, twice: bool) -> torch.Tensor:
    once = logits.relu_().log1p_()
    return once.log1p_() if twice else once
