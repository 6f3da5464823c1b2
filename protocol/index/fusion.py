"""Which signals are fused: each kind of evidence once, however many vectors carry it.

Reciprocal rank fusion gives every list the same say. An ensemble holds what its members hold, and weights of the metadata are
the same under every name: fused beside each other they would count twice. All of them are scored and reported.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from ..run_directory.json_bytes import decode_json
from ..run_directory.layout import RunLayout
from ..spec.run_spec import PassSpec, RunSpec
from ..vectors.metadata_terms import METADATA_WEIGHTS


class _Computed(msgspec.Struct, frozen=True):
    """What `pass.json` says of a pass that has begun."""

    pooling: str = ""


def has_no_model(layout: RunLayout, one: PassSpec) -> bool:
    """Whether all the weights of the pass are those of the metadata: asked for, or for want of the model."""
    if one.kind not in ("metadata", "sparse"):
        return False
    try:
        computed = decode_json(layout.pass_file(one.vector).read_bytes(), _Computed)
    except (OSError, msgspec.MsgspecError):
        return False  # not begun, or torn: whoever needs the file says so
    return computed.pooling == METADATA_WEIGHTS


def metadata_vectors(layout: RunLayout, spec: RunSpec) -> list[str]:
    """The sparse vectors whose weights are all of the metadata, the one asked for first."""
    found = [one for one in spec.passes if has_no_model(layout, one)]
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
