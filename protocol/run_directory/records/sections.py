"""The sections `sparse_run` and `rerank_run` of the manifest. `rerank/rerank_run.json` has the second one too."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from ..json_bytes import read_json
from ..layout import RunLayout


class SparseInferenceRun(msgspec.Struct, frozen=True, kw_only=True):
    """One sparse vector. `live` + `from_metadata` + `without` are all rows."""

    vector: str
    kind: str
    model: str
    live: int
    """Computed by the model."""
    from_metadata: int
    """With the term weights of the chunk's metadata."""
    without: int
    """Neither: in quarantine, or, for a vector of metadata weights only, a chunk without them."""
    unusable: int | UnsetType = UNSET
    """Chunks whose metadata was read and has some weights that cannot be used."""
    device: str
    dtype: str
    placement: str
    batch_seconds: dict[str, float]
    """`p50`, `p95` and `p99` among others: tokenizing and computing one batch, over all sessions."""


class CrossEncoderRerankRun(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of batches are sums over all sessions, peaks are maxima; `placement` is that of the last session."""

    model: str
    candidates: int
    queries: int
    queries_without_candidates: int
    pairs: int
    scored: int
    fallbacks: int
    """Pairs without a score. They follow the scored ones, in their fused order."""
    reasons: dict[str, int]
    """The most frequent reasons of the fallbacks."""
    coverage: float
    """The share of `scored` in `pairs`."""
    seconds: float
    batches: int
    batch_rows: dict[str, int | float]
    batch_seconds: dict[str, float]
    """`p50`, `p95` and `p99` among others: tokenizing and computing one batch."""
    mitigations: int
    """Changes of the micro-batch budget, for example halvings on out-of-memory."""
    device: str
    dtype: str
    placement: str
    peak_bytes: int
    """Reserved by torch on a GPU; resident memory on a CPU."""
    gpu_peak_bytes: int | UnsetType = UNSET
    """In use on the GPU by NVML's samples, other tenants included; 0 on a CPU."""
    truncated: int | UnsetType | None = UNSET
    """Pairs that were cut at the model's limit. 0.1.0 did not write this and the next two."""
    tokens_cut: int | UnsetType | None = UNSET
    """Tokens that were cut off; None if they were not counted."""
    tokens_cut_share: float | UnsetType | None = UNSET
    """The share of `tokens_cut` in all tokens of the pairs."""


def read_rerank_run(layout: RunLayout) -> CrossEncoderRerankRun | None:
    """The section of the last ranking; None if nothing was reranked. RunDirectoryError if the file is damaged."""
    return read_json(layout.rerank_record, CrossEncoderRerankRun)
