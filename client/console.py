"""The consoles that people read: rich's, and every text on them as a terminal may show it."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from ..protocol.terminal_text import printable

UNSEEN_WIDTH = 160
"""Columns where nobody sees a terminal."""


class SafeConsole(Console):
    """Text with control characters is shown with these written out: an id of a corpus must not steer the terminal."""

    def render_str(self, text: str, **how: Any) -> Text:
        """What rich makes of every string that it shows, in tables too."""
        return super().render_str(printable(text), **how)


def output_console() -> Console:
    """On standard output. Lines are left whole; where nobody sees a terminal, tables are too."""
    return SafeConsole(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else UNSEEN_WIDTH)


def message_console(*, whole_tables: bool = False) -> Console:
    """On standard error, beside the progress. `whole_tables`: as those on standard output are."""
    if not whole_tables:
        return SafeConsole(stderr=True, highlight=False)
    width = None if sys.stderr.isatty() else UNSEEN_WIDTH
    return SafeConsole(stderr=True, highlight=False, soft_wrap=True, width=width)
