"""The lines typed at the search prompt, with a history from one session to the next; or those of standard input."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType

SIGN = "search> "
MOST_LINES = 1_000
"""Most lines of the history."""


def is_terminal() -> bool:
    """Whether a user types the input and sees the output."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def typed_lines() -> Generator[str]:
    """What is typed, line by line, until Ctrl-D. Ctrl-C drops a line."""
    history = History()
    while True:
        try:
            line = input(SIGN)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        history.keep()
        yield line


def piped_lines() -> Iterator[str]:
    """The lines of standard input, as UTF-8."""
    for line in sys.stdin.buffer if sys.stdin is not None else ():
        yield line.decode(errors="replace").rstrip("\r\n")


def history_file() -> Path | None:
    """Where the history is kept; None without a home. A relative XDG_STATE_HOME is ignored, as its specification says."""
    roots = (os.environ.get("XDG_STATE_HOME", ""), os.path.expanduser("~/.local/state"))
    return next((Path(one) / "embedfleet" / "search_history" for one in roots if os.path.isabs(one)), None)


class History:
    """Lines of this and earlier sessions, which the arrow keys bring back. Without an editor of lines, nothing is kept."""

    def __init__(self) -> None:
        self._editor = _editor()
        self._file = history_file()
        if self._editor is None or self._file is None:
            return
        self._editor.set_history_length(MOST_LINES)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600))  # queries may be private
            self._editor.read_history_file(self._file)
            if self._editor.get_current_history_length() > MOST_LINES:
                self._editor.write_history_file(self._file)
        self._length: int = self._editor.get_current_history_length()

    def keep(self) -> None:
        """Write the last line now, so that it is kept however the session ends, and beside those of other sessions."""
        if self._editor is None or self._file is None:
            return
        before, self._length = self._length, self._editor.get_current_history_length()
        if self._length > before:  # a blank line, or the one before again, is no new one
            with contextlib.suppress(OSError):
                self._editor.append_history_file(1, self._file)


def _editor() -> ModuleType | None:
    """The module readline, if this Python has it."""
    try:
        import readline
    except ImportError:
        return None
    readline.set_auto_history(True)
    return readline
