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
    """Whether somebody types, and sees what is printed."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def typed_lines() -> Generator[str]:
    """What is typed, line by line, until Ctrl-D. Ctrl-C drops a line."""
    readline = _readline()
    history = history_file()
    _read(readline, history)
    while True:
        try:
            line = input(SIGN)
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        _append(readline, history)
        yield line


def piped_lines() -> Iterator[str]:
    """The lines of standard input, as UTF-8."""
    for line in sys.stdin.buffer if sys.stdin is not None else ():
        yield line.decode(errors="replace").rstrip("\r\n")


def history_file() -> Path | None:
    """Where the history is kept; None without a home. A relative XDG_STATE_HOME is ignored, as its specification says."""
    roots = (os.environ.get("XDG_STATE_HOME", ""), os.path.expanduser("~/.local/state"))
    return next((Path(one) / "embedfleet" / "search_history" for one in roots if os.path.isabs(one)), None)


def _readline() -> ModuleType | None:
    """The editor of lines; without it, lines are typed all the same."""
    try:
        import readline
    except ImportError:
        return None
    readline.set_auto_history(True)
    return readline


def _read(readline: ModuleType | None, history: Path | None) -> None:
    if readline is None or history is None:
        return
    with contextlib.suppress(OSError):
        history.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(history, os.O_WRONLY | os.O_CREAT, 0o600))  # what somebody looks for is his own affair
        readline.read_history_file(history)
    readline.set_history_length(MOST_LINES)


def _append(readline: ModuleType | None, history: Path | None) -> None:
    """Write the last line, so that it is kept however the session ends, and beside those of other sessions."""
    if readline is not None and history is not None and readline.get_current_history_length():
        with contextlib.suppress(OSError):
            readline.append_history_file(1, history)
