"""Which signals are fused: each kind of evidence once, however many vectors carry it.

Reciprocal rank fusion gives every list the same say. An ensemble holds what its members hold, and weights of the metadata are
the same under every name: fused beside each other they would count twice. All of them are scored and reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..errors import RunDirectoryError
from ..run_directory.layout import RunLayout
from ..run_directory.records.passes import read_pass
from ..spec.run_spec import PassSpec, RunSpec
from ..vectors.metadata_terms import METADATA_WEIGHTS


def has_only_metadata_weights(layout: RunLayout, one: PassSpec) -> bool:
    """Whether all the weights of the pass are those of the metadata: asked for, or for want of the model."""
    if one.kind not in ("metadata", "sparse"):
        return False
    try:
        computed = read_pass(layout, one.vector)
    except RunDirectoryError:
        return False  # torn: whoever needs the file says so
    return computed is not None and computed.pooling == METADATA_WEIGHTS


def metadata_vectors(layout: RunLayout, spec: RunSpec) -> list[str]:
    """The sparse vectors whose weights are all of the metadata, the one asked for first."""
    found = [one for one in spec.passes if has_only_metadata_weights(layout, one)]
    return [one.vector for one in sorted(found, key=lambda one: one.kind != "metadata")]


def fused_names(
    spec: RunSpec, signals: Iterable[str], of_metadata: Sequence[str], named: Collection[str] = ()
) -> list[str]:
    """Those of `signals` that are fused, in their order.

    An ensemble is fused in place of its members, of several ensembles over the same members the first one, and of the
    vectors `of_metadata` the first one. What somebody has `named` is fused whatever else holds it.
    """
    there = list(signals)
    held: set[str] = set()
    for ensemble in sorted(spec.ensembles, key=lambda one: one.vector not in named):
        if ensemble.vector not in there:
            continue
        if held.issuperset(ensemble.members):
            held.add(ensemble.vector)
        held.update(ensemble.members)
    held.update([name for name in of_metadata if name in there][1:])
    return [name for name in there if name in named or name not in held]
