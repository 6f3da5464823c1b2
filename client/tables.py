"""What people see of hits, reports and runs: text on standard output, tables by rich."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..protocol.candidates import FUSED, RERANK
from ..protocol.intake_notes import note_lines
from .evaluation import Evaluation
from .run_table import ROOMY
from .search import Hit
from .verify_report import VerifyReport
from .words import counted, size_of

EXCERPT = 160


def print_hits(hits: Sequence[Hit]) -> None:
    """Each hit with its scores and the beginning of its text."""
    console = _console()
    for place, hit in enumerate(hits, 1):
        scores = "  ".join(f"{name} {score:.4f}" for name, score in labelled_scores(hit).items())
        text = " ".join(hit.text.split())
        shown = text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
        console.print(f"[bold]{place:>3}. {escape(hit.id)}[/bold]  {scores}\n     [dim]{escape(shown)}[/dim]")
    if not hits:
        console.print("nothing found")


def labelled_scores(hit: Hit) -> dict[str, float]:
    """By what they are of: first what orders the hits, the reranker or the fusion, then every signal. A lone signal is not
    fused: its own score is the one that orders."""
    first = {} if hit.rerank is None else {RERANK: hit.rerank}
    if hit.fused:
        first[FUSED] = hit.score
    return first | hit.scores


def print_report(report: VerifyReport) -> None:
    """Counts, notes and problems of a verification."""
    console = _console()
    table = Table("vector", "segments", "rows", "quarantined", "dimensions")
    for name, one in report.vectors.items():
        table.add_row(name, *(f"{n:,}" for n in (one.segments, one.rows, one.quarantined)), str(one.dim or "-"))
    console.print(table)
    console.print(
        f"{counted(report.chunks, 'chunk')} in {counted(report.segments, 'segment')}, "
        f"{counted(report.rejected, 'record')} rejected, {counted(report.duplicates, 'duplicate')} skipped, "
        "points in the collection: " + (f"{report.points:,}" if report.points is not None else "not counted")
    )
    for note in report.notes:
        console.print(f"note: {escape(note)}")
    for problem in report.problems:
        console.print(f"[red]problem:[/red] {escape(problem)}")
    console.print("[green]whole[/green]" if report.ok else f"[red]{counted(len(report.problems), 'problem')}[/red]")


def print_evaluation(found: Evaluation) -> None:
    """Measures and costs of every ranking, on standard error: beside the progress, not among the data."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, width=None if sys.stderr.isatty() else 160)
    more = ("rows/s", "device") if console.width >= ROOMY else ()  # else the names would be cut off
    table = Table("ranking", *found.measures, "seconds", *more)
    for one in found.rankings:
        rate = f"{one.cost.per_second:,.1f}" if one.cost.per_second else "-"
        scores = (f"{one.scores[measure]:.4f}" for measure in found.measures)
        cost = (rate, escape(one.cost.device))[: len(more)]
        table.add_row(one.name, *scores, f"{one.cost.seconds:,.2f}", *cost)
    console.print(table)
    console.print(f"{counted(found.queries, 'judged query', 'judged queries')}. {escape(found.verdict)}")
    for note in found.notes:
        console.print(f"note: {escape(note)}")


def print_info(described: dict[str, Any]) -> None:
    """What a run directory holds."""
    console = _console()
    chunks, index = described["chunks"], described["index"]
    console.print(f"{escape(described['root'])}: {described['status']}")
    console.print(f"source     {escape(described['spec']['source'])}")
    console.print(
        f"chunks     {chunks['rows']:,} in {counted(chunks['segments'], 'segment')} ({size_of(chunks['bytes'])}), "
        f"{chunks['rejected']:,} rejected, {counted(chunks['duplicates'], 'duplicate')}"
        + ("" if chunks["intake_done"] else ", source not read to its end")
    )
    for line in note_lines(chunks["notes"]):
        console.print(f"           {line}")
    console.print(
        f"collection {index['kind']}, {counted(index['published_segments'], 'segment')} ({size_of(index['bytes'])})"
    )
    table = Table("vector", "model", "dimensions", "dtype", "stored", "rows", "quarantined", "tokens", "size")
    for one in described["vectors"]:
        counts = (f"{one[name]:,}" for name in ("rows", "quarantined", "tokens"))
        dim = str(one["dim"] or "-")
        stored = one["storage"] or ""
        table.add_row(one["vector"], escape(one["model"]), dim, one["dtype"], stored, *counts, size_of(one["bytes"]))
    console.print(table)


def _console() -> Console:
    """Lines are left whole; where nobody sees a terminal, tables are too."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
