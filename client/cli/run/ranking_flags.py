"""Flags of a run: the steps after the corpus is embedded, rankings and exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...completion.models import rerank_models
from ..flag_types import local_path

Queries = Annotated[
    Path | None,
    typer.Option(
        metavar="Q.jsonl",
        parser=local_path,
        help="Then find chunks for these queries: JSON lines of id and text, in a file or at an address.",
    ),
]
Qrels = Annotated[
    Path | None,
    typer.Option(
        metavar="F",
        parser=local_path,
        help="Judgements (BEIR or TREC), in a file or at an address: evaluate every signal.",
    ),
]
Rerank = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        autocompletion=rerank_models,
        help="A cross-encoder that orders the fused candidates.",
    ),
]
Candidates = Annotated[
    int | None, typer.Option(metavar="N", help="Chunks per query, of each signal and of the fusion. Default: 100.")
]
TopK = Annotated[int | None, typer.Option(metavar="K", help="Chunks per query in export/rerank.jsonl. Default: 10.")]
Signals = Annotated[
    list[str] | None,
    typer.Option(metavar="S,S", help="With --queries: fuse only these vectors or forms, as in search. Default: all."),
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--export", metavar="F,F", help="Formats written to DIR/export at the end, or all: see `embedfleet export`."
    ),
]
