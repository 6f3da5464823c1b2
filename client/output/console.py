"""Consoles of rich for standard output and standard error, which show control characters as escapes."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from ...protocol.text.terminal_text import printable
from .messages import messages

UNSEEN_WIDTH = 160
"""Width in columns of a table if the stream is not a terminal."""


class SafeConsole(Console):
    """A console that shows control characters as escapes: an id of a corpus must not control the terminal.

    With NO_COLOR set, it writes plain text, without bold as well.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto", **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Convert a string to rich's text; rich calls this for every string that it shows, in tables too."""
        return super().render_str(printable(text), **how)


def output_console() -> Console:
    """A console for standard output. It wraps no lines; if the output is not a terminal, tables have UNSEEN_WIDTH columns."""
    return SafeConsole(soft_wrap=True, width=None if sys.stdout.isatty() else UNSEEN_WIDTH)


def page_console() -> Console:
    """A console for standard output, with the width of the terminal: 80 columns if there is none. It wraps no lines itself."""
    return SafeConsole(soft_wrap=True)


def message_console(*, whole_tables: bool = False, always: bool = False, result: bool = False) -> Console:
    """A console for standard error, which shows nothing with --quiet and --progress json. With `whole_tables`, lines and tables
    are as on standard output; with `always`, it is one of a terminal wherever standard error leads; a `result` is shown with
    --quiet too."""
    silent = messages().as_json or (messages().settings.quiet and not result)
    if not whole_tables:
        return SafeConsole(stderr=True, quiet=silent, force_terminal=always or None)
    width = None if sys.stderr.isatty() else UNSEEN_WIDTH
    return SafeConsole(stderr=True, soft_wrap=True, width=width, quiet=silent)
