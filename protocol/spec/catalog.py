"""The models that have a short name, listed in `models.json`. The figures are from the models' cards."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A model's properties that are known before it is loaded."""

    hub: str
    """The repository on the Hugging Face hub."""
    dim: int
    """Dimensions of a vector; for multivectors of a token's vector, for sparse models of the vocabulary, for rerankers 1."""
    max_tokens: int
    kind: Literal["dense", "sparse", "multivector", "rerank"] = "dense"
    """What it computes: the kind of its passes."""
    document_prompt: str = ""
    query_prompt: str = ""
    package: str = ""
    """A Python package with the same weights, used if it is installed and the hub's cache lacks the model."""
    remote_code: bool = False
    """The model's repository brings code of its own, which runs only with --trust-remote-code."""
    license: str = ""
    """As its card names it; empty if not known."""
    languages: str = ""
    """ISO 639-1 codes, or how many there are, by its card; empty if not known."""
    bytes: int = 0
    """The size of its weights as the hub lists it; 0 if not known."""


@cache
def catalog() -> dict[str, CatalogEntry]:
    """All entries by alias."""
    data = (Path(__file__).parent / "models.json").read_bytes()
    return msgspec.json.decode(data, type=dict[str, CatalogEntry])


def find(model: str) -> CatalogEntry | None:
    """The entry for an alias or hub id, in any case; None for a model that is not listed."""
    wanted = model.lower()
    for alias, entry in catalog().items():
        if wanted in (alias.lower(), entry.hub.lower()):
            return entry
    return None


def aliases(kind: str = "dense") -> list[str]:
    """The short names of the models of a kind, for messages."""
    return sorted((alias for alias, entry in catalog().items() if entry.kind == kind), key=str.lower)
