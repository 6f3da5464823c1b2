"""EnsembleSpec: a vector that a run combines from several dense vectors (see `ensembles.py`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ..errors import UsageError

Method = Literal["concat", "average"]

SMALLEST_SHARE = 2.0**-24
"""The smallest share of a weight in their sum. A smaller one is lost in the rounding of float32, and its member has no
effect."""


class EnsembleSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One combined vector. `weights` has a positive weight for each member; only their ratios matter."""

    vector: str
    method: Method
    members: tuple[str, ...]
    """Names of dense vectors of the run."""
    weights: tuple[float, ...]
    project: bool = False
    """For `average`: members may have different dimensions."""

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights divided by their sum."""
        total = math.fsum(self.weights)
        return tuple(weight / total for weight in self.weights)


def check_ensemble(one: EnsembleSpec, dense: Sequence[str]) -> None:
    """Raise UsageError for an ensemble that cannot be made of the run's dense vectors."""
    flag = f"--ensemble {one.method}"
    for name in one.members:
        if name not in dense:
            raise UsageError(f"{flag}: {name!r} is no dense vector of this run; it has {', '.join(dense) or 'none'}")
    if len(one.members) < 2 or len(set(one.members)) < len(one.members):
        raise UsageError(f"{flag}: give at least two different dense models, with --dense or --heads")
    if len(one.weights) != len(one.members):
        raise UsageError(
            f"--weights: {len(one.weights)} weights for {len(one.members)} dense vectors; give one for each, "
            f"in the order {', '.join(one.members)}"
        )
    weights = f"--weights {','.join(_typed(weight) for weight in one.weights)}"
    if not all(math.isfinite(weight) and weight > 0 for weight in one.weights):
        raise UsageError(f"{weights}: give numbers above 0")
    if not math.isfinite(sum(one.weights)):  # not fsum, which raises
        raise UsageError(f"{weights}: their sum is too large; only their ratios count, so give smaller numbers")
    if (least := min(one.weights)) < SMALLEST_SHARE * sum(one.weights):
        raise UsageError(
            f"{weights}: {_typed(least)} is too small beside the others to have an effect; give more, or leave that model out"
        )


def _typed(weight: float) -> str:
    """The number as people type it: `2`, not `2.0`."""
    return str(weight).removesuffix(".0")


def ensemble_dim(one: EnsembleSpec, dims: Mapping[str, int]) -> int:
    """Dimensions of the ensemble from those of its members. UsageError if they cannot be averaged."""
    if one.method == "concat":
        return sum(dims[name] for name in one.members)
    if one.project:
        return min(dims[name] for name in one.members)
    if len({dims[name] for name in one.members}) > 1:
        named = ", ".join(f"{name} has {dims[name]}" for name in one.members)
        raise UsageError(
            f"--ensemble average needs vectors of equal dimensions, and {named}. Make them equal with --truncate-dim "
            "where the models allow it, use --ensemble concat, or give --project too"
        )
    return dims[one.members[0]]
