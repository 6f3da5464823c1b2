"""Names of models for a shell: the catalogue's, and hub ids in the cache."""

from __future__ import annotations

from ...protocol.host.hub_cache import cached_names
from ...protocol.spec.catalog import aliases, catalog
from ...protocol.spec.run_spec import CPU_KINDS

HEADED = "bge-m3"
"""The only model with heads."""


def _of_kind(kind: str) -> list[str]:
    """The short names of a kind, then hub ids in the cache, which may be of any kind."""
    listed = {entry.hub for entry in catalog().values()}
    return [*aliases(kind), *(name for name in cached_names() if name not in listed)]


def dense_models(incomplete: str) -> list[str]:
    """Models for --dense."""
    return _begin(_of_kind("dense"), incomplete)


def sparse_models(incomplete: str) -> list[str]:
    """Models for --sparse, bm25 and metadata."""
    return _begin([*sorted(CPU_KINDS), *_of_kind("sparse")], incomplete)


def multivector_models(incomplete: str) -> list[str]:
    """Models for --multivector."""
    return _begin(_of_kind("multivector"), incomplete)


def rerank_models(incomplete: str) -> list[str]:
    """Models for --rerank."""
    return _begin(_of_kind("rerank"), incomplete)


def heads_models(incomplete: str) -> list[str]:
    """Models for --heads."""
    return _begin([HEADED, *(name for name in _of_kind("dense") if "/" in name)], incomplete)


def known_models(incomplete: str) -> list[str]:
    """The short names of all kinds."""
    return _begin(list(catalog()), incomplete)


def _begin(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
