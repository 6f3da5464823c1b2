"""The preprocessing policy `nfc-strip-1`: what every text goes through before it is embedded."""

from __future__ import annotations

import re
from unicodedata import is_normalized, normalize

_ASCII_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n") + b"\x7f"
# Category Cc but tab and newline, and lone surrogates, which UTF-8 cannot carry.
_REMOVED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def preprocess(text: str) -> str:
    """Line ends as newlines, control characters removed, Unicode NFC, stripped; may come out empty.

    The result always encodes as UTF-8, and going through again changes nothing.
    """
    if text.isascii():
        data = text.encode()
        if len(data.translate(None, _ASCII_CONTROLS)) == len(data):
            return text.strip()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Before NFC: a removed character may have stood between a letter and its accent.
    text = _REMOVED.sub("", text)
    if not is_normalized("NFC", text):
        text = normalize("NFC", text)
    return text.strip()
