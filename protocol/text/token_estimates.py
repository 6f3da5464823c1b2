"""Tokens by a guess, where no tokenizer has seen the texts."""

from __future__ import annotations

BYTES_PER_TOKEN = 4
"""What English text has, metadata and all."""
TOKENS_A_TEXT = 2
"""The special tokens that a model adds."""


def estimated_tokens(n_bytes: int, rows: int) -> int:
    """Tokens of so many rows whose texts have `n_bytes` UTF-8 bytes together: for cutting and for progress."""
    return n_bytes // BYTES_PER_TOKEN + rows * TOKENS_A_TEXT
