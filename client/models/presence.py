"""Whether a run finds a model on this host, by the files that are there: in milliseconds, without the hub's client."""

from __future__ import annotations

import importlib.util
from typing import Literal

from ...protocol.host.hub_cache import find_cached
from ...protocol.spec.catalog import CatalogEntry

Presence = Literal["cache", "package", "incomplete", "none"]
"""In the hub's cache, in an installed package, without its weights in the cache, or not here."""


def find_presence(entry: CatalogEntry) -> tuple[Presence, int]:
    """Where the model is, and the bytes that it takes in the cache."""
    cached = find_cached(entry.hub)
    size = cached.bytes if cached is not None else 0
    if cached is not None and cached.has_weights:
        return "cache", size
    if entry.package and importlib.util.find_spec(entry.package) is not None:
        return "package", size
    return ("incomplete" if cached is not None else "none"), size
