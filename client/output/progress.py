"""Show the progress of a run on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ...protocol.text.terminal_text import printable
from ...protocol.wire.control import PassProgress, Progress
from .formatting import percent

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_SECONDS = 5.0
WIDE = 140
"""Width in columns from which a terminal shows all figures."""
NARROW_NAME = 24
"""Most characters of a name on a narrower terminal."""


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


def make_view(about: str = "") -> ProgressView:
    """Bars if standard error is a terminal, else lines. `about` is put before the names of the passes."""
    return BarView(about) if sys.stderr.isatty() else PlainView(about)


def rows_of(progress: Progress) -> str:
    """`1,024 rows` or, while the source is read, `1,024+ rows`."""
    return f"{progress.rows:,}{'' if progress.intake_done else '+'}"


def figures_of(pass_: PassProgress, *, total_known: bool, wide: bool = True) -> str:
    """Rates, time left, devices and batches in flight of a pass. If not `wide`: the rate and the time left."""
    if not pass_.rows_per_second:
        return pass_.state
    if not wide:
        known = pass_.seconds_left is not None and total_known and pass_.share_done < 1
        return f"{pass_.rows_per_second:,.1f}/s" + (f" ETA {_clock(pass_.seconds_left or 0)}" if known else "")
    parts = [f"{pass_.rows_per_second:,.1f} rows/s", f"{pass_.tokens_per_second:,.0f} tokens/s"]
    if pass_.seconds_left is not None and total_known and pass_.share_done < 1:
        parts.append(f"{percent(pass_.share_done, 0)} done, ETA {_clock(pass_.seconds_left)}")
    if pass_.devices:
        parts.append(", ".join(pass_.devices))
    if pass_.in_flight:
        parts.append(f"{pass_.in_flight} in flight")
    return " · ".join(parts)


class PlainView:
    """A line for a pass at each change of state, and every PLAIN_SECONDS while it works.

    Not between its last row and its end: the line of its end has the same figures.
    """

    def __init__(self, about: str = "") -> None:
        self._about = about
        self._last: dict[str, tuple[str, float]] = {}

    def show(self, progress: Progress) -> None:
        for notice in progress.notices:
            self.say(notice)
        for pass_ in progress.passes:
            state, when = self._last.get(pass_.vector, ("", 0.0))
            now = time.monotonic()
            due = pass_.state == "working" and now - when >= PLAIN_SECONDS
            ending = progress.intake_done and pass_.rows_done >= progress.rows and pass_.state != "done"
            if (pass_.state != state or due) and not ending:
                self._last[pass_.vector] = (pass_.state, now)
                figures = figures_of(pass_, total_known=progress.intake_done)
                detail = f" · {figures}" if figures != pass_.state else ""
                self.say(f"{self._about}{pass_.vector}: {pass_.state} {pass_.rows_done:,}/{rows_of(progress)}{detail}")

    def say(self, text: str) -> None:
        sys.stderr.write(f"embedfleet: {printable(text)}\n")
        sys.stderr.flush()

    def close(self) -> None:
        pass


class BarView:
    """One bar for each pass, with rich."""

    def __init__(self, about: str = "") -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        from .console import message_console

        console = message_console()
        self._wide = console.width >= WIDE
        self._bars = Bars(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24 if self._wide else 10),
            TextColumn("{task.fields[count]}"),
            TextColumn("[dim]{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._about = about
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def show(self, progress: Progress) -> None:
        for notice in progress.notices:
            self.say(notice)
        for pass_ in progress.passes:
            if pass_.vector not in self._tasks:
                name = self._name(self._about + pass_.vector)
                self._tasks[pass_.vector] = self._bars.add_task(name, total=None, count="", figures="")
            self._bars.update(
                self._tasks[pass_.vector],
                total=1.0,
                completed=pass_.share_done,
                count=f"{pass_.rows_done:,}/{rows_of(progress)}",
                figures=figures_of(pass_, total_known=progress.intake_done, wide=self._wide),
            )

    def _name(self, vector: str) -> str:
        return vector if self._wide or len(vector) <= NARROW_NAME else vector[: NARROW_NAME - 1] + "…"

    def say(self, text: str) -> None:
        from rich.markup import escape

        self._bars.console.print(escape(text), highlight=False)

    def close(self) -> None:
        self._bars.stop()


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


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
