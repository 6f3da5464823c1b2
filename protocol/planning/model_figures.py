"""The figures of a run's passes: the request to `embedfleet.worker.planning.passes`, and its answer."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..spec.run_spec import Form, RunSpec, Storage

Basis = Literal["counted", "measured", "sampled", "published", "assumed"]
"""Where a figure is from. `counted` is exact; `measured` was timed or read off a run on this host; `sampled` is of an even
sample; `published` is a vendor's or a model's card; `assumed` is our guess."""

WEAKEST: tuple[Basis, ...] = ("assumed", "published", "sampled", "measured", "counted")
"""A figure made of several has the basis that comes first here."""


def weakest(*found: Basis) -> Basis:
    """The basis of a figure that is made of figures with these."""
    return min(found, key=WEAKEST.index)


class PassesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which passes, and the sample of the survey."""

    spec: RunSpec
    folder: str
    segment_rows: int
    matrix_rate: bool = False
    """Measure how fast this host multiplies matrices."""


class VectorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The size of one vector's segments: `segment_bytes` for each segment, and `row_bytes` for each row."""

    vector: str
    form: Form
    dim: int
    """0 for a sparse vector, and if it is not known."""
    storage: Storage
    row_bytes: float
    segment_bytes: float
    basis: Basis
    note: str = ""


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model without loading it; 0 for what is not known."""

    max_tokens: int = 0
    dim: int = 0
    parameters: int = 0
    table_parameters: int = 0
    """Parameters of the tables of words and positions, which are looked up and not multiplied."""
    layers: int = 0
    hidden: int = 0
    weight_bytes: int = 0
    """Of the files."""
    basis: Basis = "assumed"
    """Of the parameters."""
    note: str = ""


class PassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the sample of `rows` texts."""

    vector: str
    model: ModelFacts
    rows: int
    tokens: int
    squares: float = 0.0
    """Sum of the squares of the texts' tokens, for the cost of attention and for the error of the mean."""
    truncated: int | None = None
    """Texts that are cut; None: not known."""
    tokens_cut: int | None = None
    tokens_basis: Basis
    """`sampled`: by the model's own tokenizer, or by the counting of an encoder that needs no model; else `assumed`."""
    note: str = ""
    row_seconds: float = 0.0
    """Of an encoder that was timed on the sample, BM25's; else 0."""
    vectors: tuple[VectorFigures, ...] = ()


class PassesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The passes in the order of the spec."""

    passes: tuple[PassFigures, ...]
    ensembles: tuple[VectorFigures, ...] = ()
    matrix_rate: float = 0.0
    """Floating-point operations a second of a float32 matrix product on all cores; 0: not measured."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no plan: an error of `errors.py` by its class name."""

    kind: str
    message: str
