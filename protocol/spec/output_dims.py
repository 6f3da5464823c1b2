"""The dimensions of a run's vectors, as far as its models are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import UsageError
from .ensemble_spec import ensemble_dim
from .run_spec import RunSpec

if TYPE_CHECKING:
    from .fingerprint import Fingerprint


def output_dims(spec: RunSpec, fingerprints: Mapping[int, Fingerprint]) -> dict[str, int]:
    """Dimensions by vector name; 0 for sparse vectors and scores. `fingerprints` are by number of the pass.

    Has an ensemble once all its members are known. UsageError if dimensions do not fit their storage or each other.
    """
    known = {
        output.vector: fingerprint.dim_of(output.form)
        for number, fingerprint in fingerprints.items()
        for output in spec.passes[number].outputs
    }
    return with_ensembles(spec, known)


def with_ensembles(spec: RunSpec, known: Mapping[str, int]) -> dict[str, int]:
    """Add to the `known` dimensions those of the ensembles whose members are all known.

    UsageError if dimensions do not fit their storage or each other.
    """
    dims = dict(known)
    for output in spec.outputs:
        dim = dims.get(output.vector, 0)
        if output.storage == "binary" and dim % 8:
            raise UsageError(
                f"--store binary: {output.vector} has {dim} dimensions, which is no multiple of 8; "
                f"--truncate-dim {dim - dim % 8} would make it one where the model allows it"
                if dim > 8
                else f"--store binary: {output.vector} has {dim} dimensions; it needs a multiple of 8"
            )
    for one in spec.ensembles:
        if all(name in dims for name in one.members):
            dims[one.vector] = ensemble_dim(one, dims)
    return dims
