"""The models known by a short name, kept as data in `models.json`. Figures are those of the models' own cards."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model before it is loaded."""

    hub: str
    """The repository on the Hugging Face hub."""
    dim: int
    """Of a vector; of a token's vector; of a sparse model's vocabulary; of a reranker 1, its score."""
    max_tokens: int
    kind: Literal["dense", "sparse", "multivector", "rerank"] = "dense"
    """What it computes: the kind of its passes."""
    document_prompt: str = ""
    query_prompt: str = ""
    package: str = ""
    """A Python package that carries the same weights, used when it is installed and the hub's cache has none."""
    remote_code: bool = False
    """The model's repository brings code of its own, which runs only with --trust-remote-code."""


@cache
def catalog() -> dict[str, CatalogEntry]:
    """All entries by alias."""
    data = (Path(__file__).parent / "models.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, CatalogEntry])


def find(model: str) -> CatalogEntry | None:
    """The entry of an alias (in any case) or of a hub id; None for a model that is not listed."""
    wanted = model.lower()
    for alias, entry in catalog().items():
        if wanted in (alias.lower(), entry.hub.lower()):
            return entry
    return None


def aliases(kind: str = "dense") -> list[str]:
    """The short names of the models of a kind, for messages."""
    return sorted((alias for alias, entry in catalog().items() if entry.kind == kind), key=str.lower)
