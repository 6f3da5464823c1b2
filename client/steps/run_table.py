"""Show the stages of a command on standard error: a table by rich on a terminal, elsewhere one line for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..output.messages import messages
from ..output.truncation_lines import UNKNOWN
from .step_summary import Stage

if TYPE_CHECKING:
    from rich.table import Table

ROOMY = 110
"""Width of a terminal in columns from which tables show less important figures."""


class Column(NamedTuple):
    """The heading of a column, and the width of a terminal from which it is shown."""

    heading: str
    from_width: int = 0


COLUMNS = {
    "rows": Column("rows"),
    "seconds": Column("s"),
    "rate": Column("rows/s", ROOMY),
    "tokens": Column("tokens/s", 140),
    "batch": Column("batch", 64),
    "latency": Column("p50 / p95 s", 72),
    "committed": Column("committed"),
    "memory": Column("memory"),
    "gpu": Column("GPU"),
    "padding": Column("padding", 140),
    "coverage": Column("coverage"),
    "weights": Column("weights", 140),
    "cut": Column("cut / tokens lost", 80),
    "placed": Column("dtype, placement", 170),
    "device": Column("device", 170),
    "all": Column("all sessions", 150),
}
"""By the name of a cell. A column without cells is left out. On a narrow terminal, `gpu` replaces `memory`."""


def show_stages(stages: Sequence[Stage], say: Callable[[str], None]) -> None:
    """Show all stages: as a table on a terminal, and then as lines in the log file; else as lines through `say`."""
    if sys.stderr.isatty() and not messages().as_json:
        from ..output.console import message_console

        console, say = message_console(), messages().record
        if stages:
            console.print(make_table(stages, console.width))
    for stage in stages:
        cells = ((name, stage.cells[name]) for name in COLUMNS if name in stage.cells)
        say(f"{stage.name}: {', '.join(_plain(name, text, stage.unit) for name, text in cells)}")


def make_table(stages: Sequence[Stage], width: int) -> Table:
    """The columns that there is room for in a terminal of `width`."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    filled = {name for stage in stages for name in stage.cells}
    shown = [name for name, column in COLUMNS.items() if name in filled and width >= column.from_width]
    if "gpu" in shown and width < ROOMY:
        shown.remove("memory")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column("stage", overflow="fold", ratio=1 if width < ROOMY else None)
    for name in shown:
        table.add_column(COLUMNS[name].heading, justify="left" if name in ("placed", "device") else "right")
    for stage in stages:
        named = stage.name if stage.unit == "rows" else f"{stage.name} ({stage.unit})"
        table.add_row(escape(named), *(escape(stage.cells.get(name, "")) for name in shown))
    return table


def _plain(name: str, text: str, unit: str) -> str:
    match name:
        case "placed" | "device":
            return f"on {text}"
        case "seconds":
            return f"{text} s"
        case "rows":
            return f"{text} {_unit(text, unit)}"
        case "rate":
            return f"{text} {unit}/s"
        case "cut":
            rows, _, lost = text.partition(" / ")
            share = "an unknown share" if lost == UNKNOWN else lost
            return f"cut {rows} {_unit(rows, unit)}, {share} of all tokens"
        case "tokens":
            return f"{text} tokens/s"
        case "committed":
            return f"{text} {_unit(text, unit)} committed in all"
        case "all":
            return f"all sessions: {text}"
        case "latency":
            return f"p50 / p95 {text} s"
        case _:
            return f"{COLUMNS[name].heading} {text}"


def _unit(count: str, unit: str) -> str:
    """The unit of a count: `rows`, `queries`, and `row`, `query` of one."""
    if count != "1":
        return unit
    return f"{unit[:-3]}y" if unit.endswith("ies") else unit.removesuffix("s")
