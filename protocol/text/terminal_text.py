"""Make text safe for a terminal: control characters are shown as escapes."""

from __future__ import annotations

import re

_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and newline: escape sequences begin with one
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # marks that change the reading direction, line and paragraph separators
    "\ud800-\udfff]"  # halves of surrogate pairs, as in a file's name that is not UTF-8
)


def printable(text: str) -> str:
    r"""The text with each control character as an escape, such as `\x1b`.

    A line end of Windows becomes a newline.
    """
    return text if text.isascii() and text.isprintable() else _STEERING.sub(_escape, text.replace("\r\n", "\n"))


def on_one_line(text: str) -> str:
    """As `printable`, with line ends and tabs as escapes too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
