"""Flags of a run: the parts of its source, and the cluster that embeds them."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

OneShard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", help="Only part I (from 0) of N parts, into DIR/shards; `embedfleet merge` joins them."
    ),
]
ShardCount = Annotated[
    int | None,
    typer.Option(metavar="N", help="In N parts, one after another, then merged: what is done stays done."),
]
Engine = Annotated[
    Literal["ray"] | None,
    typer.Option(metavar="ENGINE", help="ray: have the nodes of a Ray cluster run the shards, then merge them here."),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The Ray cluster to join. Default: the one that this host is in."),
]
