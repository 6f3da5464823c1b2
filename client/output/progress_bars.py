"""Progress as bars on a terminal, with rich: a row for each pass, and one for all passes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...protocol.text.terminal_text import printable
from .messages import messages
from .progress_rows import ProgressRow, Stopwatch, clock, count_of, left_of, rate_of, share_of

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.spinner import Spinner
    from rich.table import Table

    from ...protocol.wire.control import Progress

COUNT_WIDTH = 105
"""Width of a terminal in columns from which the rows are counted too."""
DETAILS_WIDTH = 140
"""Width from which tokens a second and devices are shown."""
BAR, SHARE, RATE, ELAPSED, LEFT, COUNT = 10, 4, 16, 7, 13, 23
"""Widths of the columns."""
FIGURES = BAR + SHARE + RATE + ELAPSED + LEFT + 4
"""Width of these with blanks between."""
MARK = 2
LEAST_NAME = 12
REFRESHES_PER_SECOND = 8


class BarView:
    """One bar for each pass while the run lasts; the screen is cleared of them at its end."""

    def __init__(self, unit: str, about: str) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        from .console import message_console

        settings = messages().settings
        self._unit, self._about, self._details = unit, about, settings.verbose
        self._spinner = Spinner("dots")
        self._watch = Stopwatch(time.monotonic())
        self._progress: Progress | None = None
        self._console = message_console(always=settings.progress == "bar")
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
        )

    def show(self, progress: Progress) -> None:
        self._progress = progress
        self._live.start()

    def close(self) -> None:
        self._live.stop()

    def _frame(self) -> RenderableType:
        if self._progress is None:
            return ""
        now, width = time.monotonic(), self._console.width
        passes = self._watch.rows(self._progress, now)
        rows = [*passes, self._watch.total(passes, now)] if len(passes) > 1 else passes
        return bars(rows, self._unit, self._about, width, self._spinner, details=self._details)


def bars(
    rows: Sequence[ProgressRow], unit: str, about: str, width: int, spinner: Spinner, *, details: bool = False
) -> Table:
    """A row for each of `rows`, fitted to `width` columns. The spinner turns beside passes that are staged."""
    from rich.table import Table
    from rich.text import Text

    counted, detailed = width >= COUNT_WIDTH, details or width >= DETAILS_WIDTH
    room = width - MARK - FIGURES - 1 - (COUNT + 1 if counted else 0)
    longest = max((len(about) + len(one.name) for one in rows), default=0)
    name_width = max(LEAST_NAME, min(room, longest))
    rest = width - MARK - name_width - 1
    table = Table.grid(padding=0)
    table.add_column(width=MARK)
    table.add_column(width=name_width + 1)
    table.add_column(width=rest)
    for one in rows:
        mark = spinner if one.state == "staging" else {"done": "✓", "waiting": "·"}.get(one.state, "")
        name = Text(printable(about + one.name), style="bold")
        name.truncate(name_width, overflow="ellipsis")
        if one.state in ("working", "done"):
            cell: RenderableType = _figures(one, unit, counted=counted, detailed=detailed)
        else:
            cell = Text(printable(_activity(one)), style="dim")
            cell.truncate(rest, overflow="ellipsis")
        table.add_row(mark, name, cell)
    return table


def _figures(one: ProgressRow, unit: str, *, counted: bool, detailed: bool) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=BAR)
    for width in (SHARE, *((COUNT,) if counted else ()), RATE, ELAPSED):
        line.add_column(width=width, justify="right", no_wrap=True)
    line.add_column(width=LEFT, no_wrap=True)
    line.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    line.add_row(
        ProgressBar(total=1.0, completed=one.share, width=BAR),
        share_of(one),
        *((count_of(one),) if counted else ()),
        rate_of(one, unit),
        clock(one.elapsed) if one.elapsed or one.state != "done" else "",
        left_of(one),
        printable(one.details) if detailed else "",
    )
    return line


def _activity(one: ProgressRow) -> str:
    text = one.doing or one.state
    return f"{share_of(one)} done; {text}" if one.rows else text
