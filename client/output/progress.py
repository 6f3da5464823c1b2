"""Show the progress of a run on standard error: bars on a terminal, lines elsewhere, or as --progress has it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Protocol

from ...protocol.wire.control import Progress
from .messages import messages

DUMB = ("dumb", "unknown")
"""Terminals on which nothing can be drawn over."""

LABELLED = ("queries", "pairs")
"""Units of runs that follow another one, whose passes have the same names."""


class ProgressView(Protocol):
    """Shows the progress of one run."""

    def show(self, progress: Progress) -> None:
        """Show the newest figures."""
        ...

    def say(self, text: str) -> None:
        """Show one line of text."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was."""
        ...


class FiguresView(Protocol):
    """Shows the figures in one way."""

    def show(self, progress: Progress) -> None: ...

    def close(self) -> None: ...


def make_view(unit: str = "rows") -> ProgressView:
    """The view that the command line asked for, counting in `unit`. The passes of queries and of pairs are labelled so."""
    from .progress_lines import JsonView, LineView

    settings, parts = messages().settings, list[FiguresView]()
    about = f"{unit}: " if unit in LABELLED else ""
    mode = settings.progress
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() and os.environ.get("TERM") not in DUMB else "plain"
    if settings.quiet:
        mode = "none"
    if mode == "bar":
        from .progress_bars import BarView

        parts.append(BarView(unit, about))
    elif mode == "json":
        parts.append(JsonView(unit, messages().show_json))
    elif mode == "plain":
        parts.append(LineView(unit, about, _say_with_time, details=settings.verbose))
    if mode != "plain" and messages().log is not None:
        parts.append(LineView(unit, about, messages().record, details=True))
    return ShownView(parts)


class ShownView:
    """For people: notices of the run, and the figures in each of `parts`."""

    def __init__(self, parts: list[FiguresView]) -> None:
        self._parts = parts

    def show(self, progress: Progress) -> None:
        for notice in progress.notices:
            _say_with_time(notice)
        for part in self._parts:
            part.show(progress)

    def say(self, text: str) -> None:
        messages().say(text)

    def close(self) -> None:
        for part in self._parts:
            part.close()


class CallbackView:
    """For programs: pass the progress to a function and print nothing."""

    def __init__(self, callback: Callable[[Progress], None] | None) -> None:
        self._callback = callback

    def show(self, progress: Progress) -> None:
        if self._callback is not None:
            self._callback(progress)

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def _say_with_time(text: str) -> None:
    messages().say(text, timed=True)
