"""Which signals are fused: each kind of evidence once, however many vectors carry it.

Reciprocal rank fusion weights all lists equally. An ensemble repeats its members, and metadata weights are the same in every
vector that has them: fused together they would count twice. All signals are scored and reported, fused or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..errors import RunDirectoryError
from ..run_directory.layout import RunLayout
from ..run_directory.records.passes import read_pass
from ..spec.run_spec import PassSpec, RunSpec
from ..vectors.metadata_terms import METADATA_WEIGHTS


def has_only_metadata_weights(layout: RunLayout, one: PassSpec) -> bool:
    """Whether all weights of the pass are from metadata: by request, or because its model could not be used."""
    if one.kind not in ("metadata", "sparse"):
        return False
    try:
        computed = read_pass(layout, one.vector)
    except RunDirectoryError:
        return False  # damaged: the readers of the file report it
    return computed is not None and computed.pooling == METADATA_WEIGHTS


def metadata_vectors(layout: RunLayout, spec: RunSpec) -> list[str]:
    """The sparse vectors with metadata weights only, the requested one first."""
    found = [one for one in spec.passes if has_only_metadata_weights(layout, one)]
    return [one.vector for one in sorted(found, key=lambda one: one.kind != "metadata")]


def fused_names(
    spec: RunSpec, signals: Iterable[str], of_metadata: Sequence[str], named: Collection[str] = ()
) -> list[str]:
    """Those of `signals` that are fused, in their order.

    An ensemble takes the place of its members. Of several ensembles over the same members only the first is fused, and so is
    only the first of the vectors `of_metadata`. Signals that the user has `named` are always fused.
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
