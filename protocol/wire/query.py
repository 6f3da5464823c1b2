"""What `python -m embedfleet.worker.query` reads and writes for a search: one JSON object in, one out, on standard streams."""

from __future__ import annotations

import msgspec

from ..spec.fingerprint import Fingerprint
from ..spec.run_spec import PassSpec

Numbers = list[float | None]
"""JSON has neither NaN nor infinity: such a number is null."""


class QueryRequest(msgspec.Struct, frozen=True, rename={"spec": "pass"}):
    """What to encode and with which pass's model."""

    spec: PassSpec
    fingerprint: Fingerprint | None
    """As `pass.json` has it; a reranker needs none."""
    texts: list[str]
    """A reranker gets pairs, each joined to one text."""


class SparseRow(msgspec.Struct, frozen=True):
    """One sparse vector."""

    indices: list[int]
    values: Numbers


class QueryFailure(msgspec.Struct, frozen=True):
    """Why there is no answer; `kind` is the name of an error class."""

    kind: str
    message: str


class QueryAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Those of the results that the pass produces, one a text; or an error."""

    vectors: list[Numbers] | None = None
    sparse: list[SparseRow] | None = None
    multivectors: list[list[Numbers]] | None = None
    scores: Numbers | None = None
    cut: list[int] | None = None
    """For each text, the tokens that truncation removed."""
    error: QueryFailure | None = None
