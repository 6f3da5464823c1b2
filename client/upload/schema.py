"""Compare the vectors of a collection with those of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protocol.index.collection import FINGERPRINTS
from ...protocol.spec.fingerprint import same_digest

if TYPE_CHECKING:
    from qdrant_client import models


def schema_differences(wanted: models.CreateCollection, config: models.CollectionConfig) -> list[str]:
    """The reasons why a collection cannot take the points, one phrase for each vector; empty if it can."""
    ours, theirs = _described(wanted), _described(config.params)
    found = [
        f"vector {name} ({one}, there {theirs.get(name, 'missing')})"
        for name, one in ours.items()
        if theirs.get(name) != one
    ]
    passes = (config.metadata or {}).get(FINGERPRINTS, {})
    for name, fingerprint in (wanted.metadata or {}).get(FINGERPRINTS, {}).items():
        if not same_digest(passes.get(name, fingerprint), fingerprint):
            found.append(f"vector {name} (made by another model or with other settings)")
    return found


def vectors_beyond(wanted: models.CreateCollection, config: models.CollectionConfig) -> list[str]:
    """The vectors of a collection that the run lacks: replacing a point would delete them."""
    return [name or "one without a name" for name in _described(config.params) if name not in _described(wanted)]


def _described(params: Any) -> dict[str, str]:
    """Each vector in words. `params` has `vectors` and `sparse_vectors`."""
    words: dict[str, str] = {}
    vectors: Any = params.vectors or {}
    for name, one in (vectors if isinstance(vectors, dict) else {"": vectors}).items():
        many = "multivectors" if one.multivector_config else "dense"
        # float16 for float32 costs precision only; whole numbers from 0 to 255 are none of these vectors
        whole = ", uint8" if one.datatype is not None and one.datatype.value == "uint8" else ""
        words[name] = f"{many}, size {one.size}, {one.distance.value}{whole}"
    for name, one in (params.sparse_vectors or {}).items():
        words[name] = f"sparse, modifier {one.modifier.value if one.modifier else 'none'}"
    return words
