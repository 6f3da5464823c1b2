"""Which texts are not embedded, and why."""

from __future__ import annotations

MAX_TEXT_BYTES = 16 << 20
"""A tokenizer needs about 150 bytes for each byte of a text without spaces: 2.5 GB for a text of this size."""


def text_fault(data: bytes) -> str | None:
    """Why a preprocessed text, as UTF-8, is refused; None if it is accepted."""
    if not data:
        return "empty text"
    if len(data) > MAX_TEXT_BYTES:
        return f"text of {len(data)} bytes is over the limit of {MAX_TEXT_BYTES}"
    return None
