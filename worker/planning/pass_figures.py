"""The figures of one pass over the sample: tokens, truncation, and the size of each of its vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import orjson

from ...protocol.planning.model_figures import Basis, ModelFacts, PassFigures, VectorFigures
from ...protocol.spec.fake_models import PREFIX, parse_fake
from ...protocol.spec.known_models import known_dim
from ...protocol.spec.run_spec import Output, PassSpec
from ...protocol.vectors.metadata_terms import metadata_weights
from ..encoders.sparse import ACTIVE_DIMS
from .model_facts import KnownModel, known_model
from .token_counts import TokenCounts, count_tokens
from .vector_bytes import Counts, Entries, SampleRows, dense_size, list_size

MOST_ENCODED = 16_384
"""Texts of the sample that an encoder without a model encodes, for the size of its vectors."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows of the sample (n)."""

    ids: Sequence[str]
    texts: Sequence[str]
    metadata: Sequence[str | None]
    segment_rows: int

    @property
    def rows(self) -> SampleRows:
        return SampleRows(self.ids, self.segment_rows)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A pass over the sample, before the sizes of its vectors. `entries` are by the form of the output."""

    facts: ModelFacts
    tokens: TokenCounts
    entries: Mapping[str, Entries]
    token_dim: int = 0
    row_seconds: float = 0.0


def figures_of(spec: PassSpec, sample: Sample) -> PassFigures:
    """The figures of a pass. ModelError, as for a run, if its model cannot be used."""
    found = _counted(spec, sample)
    tokens, cut = found.tokens.lengths, found.tokens.cut
    return PassFigures(
        vector=spec.vector,
        model=found.facts,
        rows=len(tokens),
        tokens=int(tokens.sum()),
        squares=float((tokens.astype(np.float64) ** 2).sum()),
        truncated=int(np.count_nonzero(cut)) if found.facts.max_tokens else None,
        tokens_cut=int(cut.sum()) if found.facts.max_tokens else None,
        tokens_basis=found.tokens.basis,
        note=found.tokens.note,
        row_seconds=found.row_seconds,
        vectors=tuple(_size(spec, output, found, sample) for output in spec.outputs),
    )


def _counted(spec: PassSpec, sample: Sample) -> _Counted:
    if spec.model.startswith(PREFIX):
        return _fake(spec, sample)
    match spec.kind:
        case "bm25":
            return _bm25(spec, sample)
        case "metadata":
            return _metadata(sample)
        case _:
            return _model(spec, sample)


def _size(spec: PassSpec, output: Output, found: _Counted, sample: Sample) -> VectorFigures:
    dim = found.facts.dim
    if not (dim or output.form == "sparse"):
        return _unknown(output)
    if output.form == "dense":
        kept = min(dim, spec.truncate_dim) if spec.truncate_dim is not None else dim
        return dense_size(sample.rows, output, kept)
    return list_size(sample.rows, output, found.token_dim or dim, found.entries[output.form])


def _unknown(output: Output) -> VectorFigures:
    """For a model whose dimensions are not known."""
    return VectorFigures(
        vector=output.vector,
        form=output.form,
        dim=0,
        storage=output.storage,
        row_bytes=0.0,
        segment_bytes=0.0,
        basis="assumed",
        note="its dimensions are not known, so its size is not either",
    )


def _fake(spec: PassSpec, sample: Sample) -> _Counted:
    """By the fake encoder itself, without the faults and delays that its name asks for."""
    from ..encoders.choose import load_encoder

    dim, _ = parse_fake(spec.model)
    plain = msgspec.structs.replace(spec, model=f"{PREFIX}{dim}")
    encoder: Any = load_encoder(plain, "cpu", 1)
    prepared = encoder.prepare(sample.texts)
    counts = TokenCounts(prepared.lengths.astype(np.int64), prepared.cut.astype(np.int64), "sampled")
    places = _places(len(sample.texts))
    entries: dict[str, Entries] = {}
    if spec.kind != "dense":
        some = encoder.prepare([sample.texts[place] for place in places])
        arrays = encoder.gather(len(places), [_computed(encoder, some)])
        for output in spec.outputs:
            prefix = f"{output.form}/" if len(spec.outputs) > 1 else ""
            if output.form != "dense":
                entries[output.form] = _spread(np.diff(arrays[f"{prefix}offsets"]), len(sample.texts), "sampled")
    return _Counted(ModelFacts(max_tokens=spec.max_tokens or 0, dim=dim), counts, entries, token_dim=dim)


def _computed(encoder: Any, prepared: Any) -> Any:
    rows = np.arange(len(prepared.lengths), dtype=np.int32)
    return rows, encoder.compute(prepared, rows)


def _bm25(spec: PassSpec, sample: Sample) -> _Counted:
    """By the encoder of BM25. The weights depend on the average length; how many there are does not."""
    from ..encoders.bm25 import Bm25Encoder

    encoder = Bm25Encoder(spec)
    prepared = encoder.prepare(sample.texts)
    places = _places(len(sample.texts))
    start = time.perf_counter()
    found = encoder.compute(prepared, places.astype(np.int32))
    seconds = (time.perf_counter() - start) / max(len(places), 1)
    counts = np.fromiter((len(indices) for indices, _ in found), np.int64, len(found))
    tokens = TokenCounts(prepared.lengths.astype(np.int64), np.zeros(len(sample.texts), np.int64), "sampled")
    return _Counted(ModelFacts(), tokens, {"sparse": _spread(counts, len(sample.texts), "sampled")}, 0, seconds)


def _metadata(sample: Sample) -> _Counted:
    """By the weights in the chunks' metadata."""
    counts = np.zeros(len(sample.texts), np.int64)
    for place, raw in enumerate(sample.metadata):
        weights = metadata_weights(orjson.loads(raw)) if raw is not None and "term_weights" in raw else None
        counts[place] = len(weights[0]) if weights is not None else 0
    none = np.zeros(len(sample.texts), np.int64)
    return _Counted(ModelFacts(), TokenCounts(none, none, "sampled"), {"sparse": Entries(counts, "sampled")})


def _model(spec: PassSpec, sample: Sample) -> _Counted:
    known = known_model(spec)
    tokens = count_tokens(known, sample.texts)
    entries = {
        "sparse": _weights(spec, tokens),
        "multivector": _token_vectors(spec, tokens),
    }
    facts, token_dim = _with_dim(known, spec), 0
    if spec.kind == "bge-m3":
        token_dim = facts.dim
    return _Counted(facts, tokens, entries, token_dim)


def _with_dim(known: KnownModel, spec: PassSpec) -> ModelFacts:
    """The facts with the dimensions that the catalogue knows, where the files say none."""
    return msgspec.structs.replace(known.facts, dim=known.facts.dim or known_dim(spec) or 0)


def _weights(spec: PassSpec, tokens: TokenCounts) -> Entries:
    """Learned weights are known only once they are computed."""
    if spec.kind == "bge-m3":
        return Entries(tokens.lengths, "assumed", "a weight for each token is assumed; --measure counts them")
    most = min(spec.max_active_dims or ACTIVE_DIMS, ACTIVE_DIMS)
    note = f"{most} weights a row are assumed; --measure counts them"
    return Entries(np.full(len(tokens.lengths), most, np.int64), "assumed", note)


def _token_vectors(spec: PassSpec, tokens: TokenCounts) -> Entries:
    counts = np.maximum(1, tokens.lengths // spec.pool_factor)
    note = "a vector for each token, though a model may leave some out; --measure counts them"
    return Entries(counts, tokens.basis if spec.pool_factor == 1 else "assumed", note)


def _places(count: int) -> Counts:
    """The places of at most MOST_ENCODED texts, evenly."""
    chosen = min(count, MOST_ENCODED)
    return (np.arange(chosen) * count) // max(chosen, 1)


def _spread(counts: Counts, rows: int, basis: Basis) -> Entries:
    """The counts of the chosen places for all rows, each for those up to the next place."""
    if len(counts) == rows:
        return Entries(counts.astype(np.int64), basis)
    nearest = (np.arange(rows) * len(counts)) // max(rows, 1)
    return Entries(counts[nearest].astype(np.int64), basis)
