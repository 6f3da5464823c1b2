"""The flags of `embedfleet search` and `embedfleet query-vectors`. Each imports its modules only when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ...completion.models import rerank_models
from ...output.messages import messages
from ..flag_types import AsJson, RunFolder, TrustsCode


def search(
    folder: RunFolder,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="What to look for. Without it, a prompt answers query after query."),
    ] = None,
    top_k: Annotated[int, typer.Option(metavar="N", help="How many hits.")] = 10,
    signals: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S,S",
            help="Vectors to fuse, by name or its end; or forms: dense, sparse, multivector. Default: all.",
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="Only chunks with this metadata: lang=de, 'lang=de|en', 'words>=100', 'date<2024-01'. Repeatable: all hold.",
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", autocompletion=rerank_models, help="A cross-encoder that reorders the first hits."
        ),
    ] = None,
    trust_remote_code: TrustsCode = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time for the models to answer; the reranker has as much again.")
    ] = 120.0,
    candidates: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Chunks of each signal to fuse. Default: 100, or --top-k if larger."),
    ] = None,
    timings: Annotated[
        bool, typer.Option("--timings", metavar="", help="How long each stage took, in ms, on standard error.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", metavar="", help="Show the whole text of each hit.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a run: the first chunks of every signal, fused by their ranks."""
    from ...options.spec_builder import split_names
    from ...search.filter_text import split_filters
    from .prompt_commands import SearchSettings
    from .search_command import search as execute

    settings = SearchSettings(
        top_k,
        tuple(split_names(signals, "--signals")),
        tuple(split_filters(filters or [])),
        rerank,
        trust_remote_code,
        candidates,
    )
    query = " ".join(words) if words else None
    raise typer.Exit(
        execute(folder, query, settings, timeout=timeout, as_json=as_json, timings=timings, full=full, say=_say)
    )


def query_vectors(
    folder: RunFolder,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The query.")],
    signals: Annotated[
        list[str] | None,
        typer.Option(metavar="S,S", help="Vectors or forms to fuse, as in `embedfleet search`. Default: all."),
    ] = None,
    top_k: Annotated[int, typer.Option(metavar="N", help="How many hits the request asks for.")] = 10,
    candidates: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Points of each signal to fuse. Default: 100, or --top-k if larger."),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long the models may take.")] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Encode a query, and show the request by which a Qdrant server with the uploaded run searches alike."""
    from ...options.spec_builder import split_names
    from .query_vectors_command import query_vectors as execute

    names = split_names(signals, "--signals")
    raise typer.Exit(execute(folder, text, names, top_k, candidates, timeout=timeout, as_json=as_json, say=_say))


def _say(line: str) -> None:
    messages().say(line)
