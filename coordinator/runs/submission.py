"""Checks of a submission before its run is queued. They read files and folders: call them on a background thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.control import Submit
from ...protocol.wire.devices import Device
from .model_checks import passes_to_check
from .sparse_placement import SparsePlacement, place_sparse


@dataclass(frozen=True, slots=True)
class Findings:
    """Where sparse models run, and the passes whose models are to be checked."""

    placed: SparsePlacement
    asked: Sequence[PassSpec]


def look_at(request: Submit, devices: Sequence[Device], *, models: bool) -> Findings:
    """Check a submission; UsageError if no run can be made of it. Without `models`, no model is checked: they are elsewhere."""
    check_extras(request.spec)
    placed = place_sparse(request.spec, request.options, devices, Path(request.out))
    return Findings(placed, passes_to_check(request) if models else ())


def check_extras(spec: RunSpec) -> None:
    """Raise UsageError if a package that the run needs is not installed."""
    edge = spec.index == "edge" or any(one.kind == "bm25" for one in spec.passes)
    if edge and find_spec("qdrant_edge") is None:
        raise UsageError(
            "the searchable index and BM25 need qdrant-edge-py: pip install 'embedfleet[qdrant]', "
            "or give --index none and no --sparse bm25"
        )
    real = [one.model for one in spec.passes if one.kind == "dense" and not one.model.startswith("fake:")]
    if real and find_spec("sentence_transformers") is None:
        raise UsageError(f"model {real[0]} needs torch and sentence-transformers: pip install 'embedfleet[torch]'")
