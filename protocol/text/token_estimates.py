"""Estimate the tokens of texts before they are tokenized."""

from __future__ import annotations

BYTES_PER_TOKEN = 4
"""The average of English text with metadata."""
TOKENS_A_TEXT = 2
"""The special tokens that a model adds."""


def estimated_tokens(n_bytes: int, rows: int) -> int:
    """Estimated tokens of `rows` texts with `n_bytes` UTF-8 bytes in all, for batch sizes and progress."""
    return n_bytes // BYTES_PER_TOKEN + rows * TOKENS_A_TEXT
