"""Print reports and runs for people: text and tables by rich, on standard output."""

from __future__ import annotations

from collections.abc import Iterator

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

LEAST_COLUMNS = 5
"""Columns of the table of signals that a narrow screen shows."""


def print_report(report: VerifyReport, *, problems_only: bool = False) -> None:
    """Print the counts, notes and problems of a verification."""
    console = output_console()
    if problems_only:
        _print_problems(console, report)
        return
    table = Table("vector", "segments", "rows", "quarantined", "dimensions", "cut / tokens lost")
    for name, count in report.vectors.items():
        cut = "-" if count.truncated is None else cut_cell(count.truncation)
        counts = (f"{n:,}" for n in (count.segments, count.rows, count.quarantined))
        table.add_row(name, *counts, str(count.dim or "-"), cut)
    console.print(table)
    console.print(
        f"{pluralize(report.chunks, 'chunk')} in {pluralize(report.segments, 'segment')}, "
        f"{pluralize(report.rejected, 'record')} rejected, {pluralize(report.duplicates, 'duplicate')} skipped, "
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
    console = message_console(whole_tables=True)
    more = ("rows/s", "device") if console.width >= ROOMY else ()  # else the names would be cut off
    table = Table("ranking", *evaluation.measures, "seconds", *more)
    for ranking in evaluation.rankings:
        rate = f"{ranking.cost.per_second:,.1f}" if ranking.cost.per_second else "-"
        scores = (f"{ranking.scores[measure]:.4f}" for measure in evaluation.measures)
        cost = (rate, escape(ranking.cost.device))[: len(more)]
        table.add_row(ranking.name, *scores, f"{ranking.cost.seconds:,.2f}", *cost)
    console.print(table)
    if lines := signal_table.rows(evaluation.signals):
        shown = None if console.width >= ROOMY else LEAST_COLUMNS
        adding = Table(*signal_table.head(evaluation.candidates)[:shown])
        for line in lines:
            adding.add_row(*map(escape, line[:shown]))
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
    names = ("vector", "model", "dimensions", "dtype", "stored", "rows", "quarantined", "tokens", "cut / tokens lost")
    table = Table(*names, "size")
    for vector in described["vectors"]:
        cut = "-" if vector["truncated"] is None else f"{vector['truncated']:,} / {percent(vector['tokens_cut_share'])}"
        counts = (*(f"{vector[name]:,}" for name in ("rows", "quarantined", "tokens")), cut)
        dim = str(vector["dim"] or "-")
        stored = vector["storage"] or ""
        table.add_row(
            vector["vector"],
            escape(vector["model"]),
            dim,
            vector["dtype"],
            stored,
            *counts,
            human_bytes(vector["bytes"]),
        )
    console.print(table)
    asked = {vector["vector"]: vector.get("max_tokens") for vector in described["spec"]["passes"]}
    for vector in described["vectors"]:
        for line in _details(vector):
            console.print(f"{vector['vector']}: {line}")
        if vector["truncated"]:
            truncation = Truncation(vector["rows"], vector["truncated"], vector["tokens"], vector["tokens_cut"])
            line = advice(vector["vector"], truncation, vector["max_tokens"] or 0, asked.get(vector["vector"]))
            if line:
                console.print(f"note: {escape(line)}")


def _details(vector: VectorDescription) -> Iterator[str]:
    """Lines on a vector that the table has no column for."""
    if "average_length" in vector["settings"]:
        yield f"fitted to an average length of {vector['settings']['average_length']:,.6g} terms"
    if segments := vector.get("float16_segments", 0):
        yield f"{pluralize(segments, 'segment')} stored as float16, since int8 would be too coarse"
