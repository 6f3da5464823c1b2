"""What the collection of a run is to be, as plain data: the body of Qdrant's `PUT /collections/{name}`. No engine here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from .done_run import DoneRun

Quantization = Literal["scalar"] | None

DISTANCE = "Cosine"

FINGERPRINTS = "embedfleet"
"""The key of the collection's metadata under which the fingerprint of each vector's pass stands."""

_SCALAR: dict[str, Any] = {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}


def collection_name(root: Path) -> str:
    """The collection's name where none is given: the run directory's, in letters, digits, `.`, `_` and `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.absolute().name).strip("-.")
    return name[:100] or "embedfleet"


def sparse_modifier(kind: str) -> Literal["idf", "none"]:
    """BM25 weights lack the rarity of a term, which the engine adds; learned weights have it already."""
    return "idf" if kind == "bm25" else "none"


def collection_schema(run: DoneRun, quantization: Quantization = None) -> dict[str, Any]:
    """Named vectors with size and distance, MaxSim for multivectors, sparse vectors with their modifier."""
    kinds = {one.vector: one.kind for one in run.spec.outputs}
    vectors: dict[str, Any] = {}
    sparse: dict[str, Any] = {}
    for name, shape in run.shapes().items():
        if shape.form == "sparse":
            sparse[name] = {"modifier": sparse_modifier(kinds[name])}
            continue
        vectors[name] = {"size": shape.dim, "distance": DISTANCE}
        if shape.form == "multivector":
            vectors[name]["multivector_config"] = {"comparator": "max_sim"}
    return {
        "vectors": vectors,
        "sparse_vectors": sparse,
        "quantization_config": _SCALAR if quantization == "scalar" else None,
        "metadata": {FINGERPRINTS: run.fingerprints()},
    }
