"""Input and output of the check of a run's models (`worker/models/check.py`): passes to check, and refusals."""

from __future__ import annotations

import msgspec

from ..spec.run_spec import PassSpec


class PassToCheck(PassSpec, frozen=True, kw_only=True, omit_defaults=True):
    """A pass whose model is to be checked."""

    files: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """File digests of the model that computed its segments; empty if it has no segments or no digests."""
    whole: bool = False
    """Whether all segments are there. Then the model may be missing, but must not have changed."""


class Refusal(msgspec.Struct, frozen=True):
    """A pass whose model cannot be used, and why; `kind` is the name of an error class."""

    vector: str
    kind: str
    message: str
