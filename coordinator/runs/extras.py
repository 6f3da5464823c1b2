"""Check the optional packages that a run needs, before anything is leased."""

from __future__ import annotations

from importlib.util import find_spec

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import RunSpec


def check_extras(spec: RunSpec) -> None:
    """Raise UsageError for a package that the run needs and that is not installed."""
    edge = spec.index == "edge" or any(one.kind == "bm25" for one in spec.passes)
    if edge and find_spec("qdrant_edge") is None:
        raise UsageError(
            "the searchable index and BM25 need qdrant-edge-py: pip install 'embedfleet[qdrant]', "
            "or give --index none and no --sparse bm25"
        )
    real = [one.model for one in spec.passes if one.kind == "dense" and not one.model.startswith("fake:")]
    if real and find_spec("sentence_transformers") is None:
        raise UsageError(f"model {real[0]} needs torch and sentence-transformers: pip install 'embedfleet[torch]'")
