"""Print reports and runs for people: text and tables by rich, on standard output."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...protocol.run_directory.truncation import Truncation
from ...protocol.source.intake_notes import note_lines
from ..evaluation import signal_table
from ..evaluation.evaluation import Evaluation
from ..output.console import message_console, output_console
from ..output.formatting import human_bytes, pluralize
from ..output.truncation_lines import advice, cut_cell, percent
from ..run_directory.description import RunDescription, VectorDescription
from ..steps.run_table import ROOMY
from ..verify.report import VerifyReport

INFO_COLUMNS = ("model", "dimensions", "dtype", "stored", "rows", "quarantined", "tokens", "cut / tokens lost", "size")
"""Columns of the table of `info`, after the vector."""
ONLY_ROOMY = frozenset({"model", "dtype", "stored", "tokens"})
"""Those that only a wide screen has; on others, each vector has a line with them."""
LEAST_COLUMNS = 5
"""Columns of the table of signals that a narrow screen shows."""


def print_report(report: VerifyReport, *, problems_only: bool = False) -> None:
    """Print the counts, notes and problems of a verification."""
    console = output_console()
    if problems_only:
        if report.interrupted:
            console.print(escape(report.interrupted))
        _print_problems(console, report)
        return
    table = _table(console, "vector", "segments", "rows", "quarantined", "dimensions", "cut / tokens lost")
    for name, count in report.vectors.items():
        cut = "-" if count.truncated is None else cut_cell(count.truncation)
        counts = (f"{n:,}" for n in (count.segments, count.rows, count.quarantined))
        table.add_row(name, *counts, str(count.dim or "-"), cut)
    console.print(table)
    console.print(
        f"{pluralize(report.chunks, 'chunk')} in {pluralize(report.segments, 'segment')}, "
        f"{pluralize(report.rejected, 'record')} rejected, {pluralize(report.duplicates, 'duplicate')} skipped\n"
        "points in the collection: " + (f"{report.points:,}" if report.points is not None else "not counted")
    )
    for line in filter(None, (str(report.running or ""), report.interrupted)):
        console.print(escape(line))
    for name, count in report.vectors.items():
        if line := advice(name, count.truncation, 0, None):
            console.print(f"note: {escape(line)}")
    for note in report.notes:
        console.print(f"note: {escape(note)}")
    _print_problems(console, report)
    whole = "whole so far" if report.running is not None else "whole"
    console.print(
        f"[green]{whole}[/green]" if report.ok else f"[red]{pluralize(len(report.problems), 'problem')}[/red]"
    )


def _print_problems(console: Console, report: VerifyReport) -> None:
    for problem in report.problems:
        console.print(f"[red]problem:[/red] {escape(problem)}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the measures and costs of every ranking on standard error, as the progress."""
    console = message_console(whole_tables=True, result=True)
    more = ("rows/s", "device") if console.width >= ROOMY else ()  # else the names would be cut off
    table = _table(console, "ranking", *evaluation.measures, "seconds", *more)
    for ranking in evaluation.rankings:
        rate = f"{ranking.cost.per_second:,.1f}" if ranking.cost.per_second else "-"
        scores = (f"{ranking.scores[measure]:.4f}" for measure in evaluation.measures)
        cost = (rate, escape(ranking.cost.device))[: len(more)]
        table.add_row(ranking.name, *scores, f"{ranking.cost.seconds:,.2f}", *cost)
    console.print(table)
    if lines := signal_table.rows(evaluation.signals):
        shown = None if console.width >= ROOMY else LEAST_COLUMNS
        adding = _table(console, *signal_table.head(evaluation.candidates)[:shown])
        for line in lines:
            adding.add_row(*map(escape, line[:shown]))
        if console.width < ROOMY:
            console.print()  # the tables have no frames there
        console.print(adding)
    console.print(f"{pluralize(evaluation.queries, 'judged query', 'judged queries')}. {escape(evaluation.verdict)}")
    for note in evaluation.notes:
        console.print(f"note: {escape(note)}")


def print_info(described: RunDescription) -> None:
    """Print the contents of a run directory."""
    console = output_console()
    chunks, index = described["chunks"], described["index"]
    console.print(f"{escape(described['root'])}: {described['status']}")
    console.print(f"source     {escape(described['spec']['source'])}")
    console.print(
        f"chunks     {chunks['rows']:,} in {pluralize(chunks['segments'], 'segment')} ({human_bytes(chunks['bytes'])}), "
        f"{chunks['rejected']:,} rejected, {pluralize(chunks['duplicates'], 'duplicate')}"
        + ("" if chunks["intake_done"] else ", source not read to its end")
    )
    for line in note_lines(chunks["notes"]):
        console.print(f"           {line}")
    console.print(
        f"collection {index['kind']}, {pluralize(index['published_segments'], 'segment')} ({human_bytes(index['bytes'])})"
    )
    roomy = console.width >= ROOMY
    columns = [name for name in INFO_COLUMNS if roomy or name not in ONLY_ROOMY]
    table = _table(console, "vector", *columns)
    for vector in described["vectors"]:
        cells = _cells(vector)
        table.add_row(vector["vector"], *(cells[name] for name in columns))
    console.print(table)
    asked = {vector["vector"]: vector.get("max_tokens") for vector in described["spec"]["passes"]}
    for vector in described["vectors"]:
        for line in _details(vector, with_model=not roomy):
            console.print(f"{vector['vector']}: {escape(line)}")
        if vector["truncated"]:
            truncation = Truncation(vector["rows"], vector["truncated"], vector["tokens"], vector["tokens_cut"])
            line = advice(vector["vector"], truncation, vector["max_tokens"] or 0, asked.get(vector["vector"]))
            if line:
                console.print(f"note: {escape(line)}")


def _cells(vector: VectorDescription) -> dict[str, str]:
    cut = "-" if vector["truncated"] is None else f"{vector['truncated']:,} / {percent(vector['tokens_cut_share'])}"
    return {
        "model": escape(vector["model"]),
        "dimensions": str(vector["dim"] or "-"),
        "dtype": vector["dtype"],
        "stored": vector["storage"] or "",
        **{name: f"{vector[name]:,}" for name in ("rows", "quarantined", "tokens")},
        "cut / tokens lost": cut,
        "size": human_bytes(vector["bytes"]),
    }


def _table(console: Console, first: str, *others: str) -> Table:
    """A table with these headings. On a narrow screen it has no lines between columns, and names of vectors are folded."""
    if console.width >= ROOMY:
        return Table(first, *others)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _details(vector: VectorDescription, *, with_model: bool) -> Iterator[str]:
    """Lines on a vector that the table has no column for."""
    if with_model:
        stored = f", stored as {vector['storage']}" if vector["storage"] else ""
        yield f"{vector['model']}, computed in {vector['dtype']}{stored}, {pluralize(vector['tokens'], 'token')}"
    if "average_length" in vector["settings"]:
        yield f"fitted to an average length of {vector['settings']['average_length']:,.6g} terms"
    if segments := vector.get("float16_segments", 0):
        yield f"{pluralize(segments, 'segment')} stored as float16, since int8 would be too coarse"
