"""Flags of a run: the models, and their vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from ....protocol.spec.run_spec import Index, Storage
from ...completion.models import dense_models, heads_models, multivector_models, sparse_models
from ..flag_types import EnsembleName

Dense = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]MODEL",
        autocompletion=dense_models,
        help="Dense model: alias, hub id or folder; NAME is the vector's. Repeatable.",
    ),
]
Sparse = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL",
        autocompletion=sparse_models,
        help="bm25, metadata, or a learned sparse model. Repeatable.",
    ),
]
Multivector = Annotated[
    list[str] | None,
    typer.Option(metavar="MODEL", autocompletion=multivector_models, help="Late-interaction model. Repeatable."),
]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODEL",
        autocompletion=heads_models,
        help="bge-m3: dense, sparse and multivector in one pass.",
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(metavar="N", help="Truncate texts to N tokens. Default: the model's limit.")
]
Prompt = Annotated[str | None, typer.Option(metavar="TEXT", help="Put before each text. Default: the model's own.")]
QueryPrompt = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Put before each query, here and in search. Default: the model's own."),
]
NoFallback = Annotated[
    bool,
    typer.Option("--no-fallback", metavar="", help="Do not use metadata weights where a sparse model fails."),
]
MaxActiveDims = Annotated[int | None, typer.Option(metavar="N", help="Learned sparse: keep the N largest weights.")]
PoolFactor = Annotated[int, typer.Option(metavar="N", help="Multivectors: pool N tokens into one.")]
TruncateDim = Annotated[
    int | None, typer.Option(metavar="N", help="Dense: keep N leading components, normalized again.")
]
Normalize = Annotated[
    bool,
    typer.Option(
        "--normalize",
        metavar="",
        help="Accept a model for the dot product: normalize its vectors, compare by cosine.",
    ),
]
DenseStorage = Annotated[
    Storage, typer.Option(metavar="TYPE", help="Of dense vectors in files: float32, float16, int8 or binary.")
]
Ensemble = Annotated[
    list[EnsembleName] | None,
    typer.Option(metavar="METHOD", help="One more vector made of all dense ones: concat or average. Repeatable."),
]
Weights = Annotated[
    str | None, typer.Option(metavar="A,B", help="Weights of the ensemble, one per dense model. Default: equal.")
]
Project = Annotated[
    bool,
    typer.Option(
        "--project", metavar="", help="Average: bring longer vectors down to the shortest, by a random projection."
    ),
]
CollectionIndex = Annotated[Index, typer.Option(help="Publish an embedded Qdrant Edge shard, or nothing.")]
