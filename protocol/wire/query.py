"""Requests to `python -m embedfleet.worker.query` and its answers: a line of JSON each, on its standard streams."""

from __future__ import annotations

import msgspec

from ..spec.fingerprint import Fingerprint
from ..spec.run_spec import PassSpec

Numbers = list[float | None]
"""Null stands for NaN and infinity, which JSON does not have."""


class QueryRequest(msgspec.Struct, frozen=True, rename={"spec": "pass"}):
    """Texts to encode with the model of a pass."""

    spec: PassSpec
    fingerprint: Fingerprint | None
    """As the record of the pass has it; a reranker needs none."""
    texts: list[str]
    """A reranker gets pairs, each joined to one text. Without texts the model is only loaded."""
    number: int = 0
    """The answer repeats it."""


class SparseRow(msgspec.Struct, frozen=True):
    """One sparse vector."""

    indices: list[int]
    values: Numbers


class QueryFailure(msgspec.Struct, frozen=True):
    """Why there is no answer; `kind` is the name of an error class."""

    kind: str
    message: str


class QueryAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One result for each text, in the fields that the pass produces; or an error."""

    vectors: list[Numbers] | None = None
    sparse: list[SparseRow] | None = None
    multivectors: list[list[Numbers]] | None = None
    scores: Numbers | None = None
    cut: list[int] | None = None
    """For each text, the tokens that truncation removed."""
    error: QueryFailure | None = None
    number: int = 0
    load_seconds: float = 0.0
    """What the request waited for its model."""
    encode_seconds: float = 0.0
