"""Print hits for people: on standard output, by rich."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.markup import escape

from ...protocol.finished_run.ranking_names import FUSED, RERANK
from ..output.console import output_console
from ..search.hit import Hit

EXCERPT = 160


def print_hits(hits: Sequence[Hit]) -> None:
    """Print each hit with its scores and the beginning of its text."""
    console = output_console()
    for place, hit in enumerate(hits, 1):
        text = " ".join(hit.text.split())
        shown = text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
        console.print(f"[bold]{place:>3}. {escape(hit.id)}[/bold]  {_scores(hit)}\n     [dim]{escape(shown)}[/dim]")
    if not hits:
        console.print("nothing found")


def print_chunk(hit: Hit) -> None:
    """Print the whole chunk of a hit, with its scores, ranks and metadata."""
    console = output_console()
    console.print(f"[bold]{escape(hit.id)}[/bold]  row {hit.row}  {_scores(hit)}")
    ranks = "  ".join(f"{name} {rank}" for name, rank in hit.ranks.items())
    console.print(f"[dim]ranks[/dim]     {ranks or '-'}")
    console.print(f"[dim]metadata[/dim]  {escape(msgspec.json.encode(hit.metadata).decode())}")
    console.print(escape(hit.text))


def labelled_scores(hit: Hit) -> dict[str, float]:
    """The scores of a hit by label: the reranker's and the fused one, if there are any, then every signal's."""
    first = {} if hit.rerank is None else {RERANK: hit.rerank}
    if hit.fused:
        first[FUSED] = hit.score
    return first | hit.scores


def _scores(hit: Hit) -> str:
    return "  ".join(f"{name} {score:.4f}" for name, score in labelled_scores(hit).items())
