"""Print a diagnosis for people: a line for each finding, and its remedy below."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from ..output.console import output_console
from ..output.formatting import pluralize
from .diagnosis import Diagnosis
from .finding import Level

STYLE: dict[Level, str] = {"ok": "green", "note": "yellow", "problem": "bold red"}


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print all findings, then how many of them matter."""
    console = output_console()
    table = Table.grid(padding=(0, 1))
    for width in (7, 9):
        table.add_column(min_width=width, no_wrap=True)
    table.add_column(overflow="fold")
    for one in diagnosis.findings:
        remedy = f"\n→ {escape(one.remedy)}" if one.remedy else ""
        style = STYLE[one.level]
        table.add_row(f"[{style}]{one.level}[/{style}]", one.topic, f"{escape(one.text)}{remedy}")
    console.print(table)
    problems, notes = diagnosis.count("problem"), diagnosis.count("note")
    noted = f", {pluralize(notes, 'note')}" if notes else ""
    if problems:
        console.print(f"[bold red]{pluralize(problems, 'problem')}[/bold red]{noted}")
    else:
        console.print(f"[green]nothing hinders a run[/green]{noted}")
