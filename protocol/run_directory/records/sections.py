"""The sections `sparse_run` and `rerank_run` of the manifest; the second is kept in `rerank/rerank_run.json`."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from ..json_bytes import read_json
from ..layout import RunLayout


class SparseInferenceRun(msgspec.Struct, frozen=True, kw_only=True):
    """One sparse vector. Rows: `live` + `from_metadata` + `without` are all."""

    vector: str
    kind: str
    model: str
    live: int
    """Computed by the model."""
    from_metadata: int
    """The chunk's own term weights stand in."""
    without: int
    """Neither: quarantined, or, where only the metadata was asked for, a chunk that has no weights."""
    unusable: int | UnsetType = UNSET
    """Chunks whose metadata was looked at and has weights that cannot be used: a part of theirs, or all."""
    device: str
    dtype: str
    placement: str
    batch_seconds: dict[str, float]
    """`p50`, `p95` and `p99` among others: tokenizing and computing one batch, over all sessions."""


class CrossEncoderRerankRun(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of batches are of all sessions that computed, peaks the most of any; `placement` is of the last."""

    model: str
    candidates: int
    queries: int
    queries_without_candidates: int
    pairs: int
    scored: int
    fallbacks: int
    """Pairs without a score, which keep their fused order after those with one."""
    reasons: dict[str, int]
    """Of the fallbacks, the most frequent ones."""
    coverage: float
    """`scored` of `pairs`."""
    seconds: float
    batches: int
    batch_rows: dict[str, int | float]
    batch_seconds: dict[str, float]
    """`p50`, `p95` and `p99` among others: tokenizing and computing one batch."""
    mitigations: int
    """How often the micro-batch budget was changed, halvings on out-of-memory among them."""
    device: str
    dtype: str
    placement: str
    peak_bytes: int
    """Reserved by torch on a GPU; resident memory on a CPU."""
    gpu_peak_bytes: int | UnsetType = UNSET
    """In use on the GPU by NVML's samples, other tenants included; 0 on a CPU."""
    truncated: int | UnsetType | None = UNSET
    """Pairs that were cut at the model's limit. This and the next two are not in a section of 0.1.0."""
    tokens_cut: int | UnsetType | None = UNSET
    """Tokens that were cut off; None if they were not counted."""
    tokens_cut_share: float | UnsetType | None = UNSET
    """The share of these in all tokens of the pairs."""


def read_rerank_run(layout: RunLayout) -> CrossEncoderRerankRun | None:
    """The section of the last ranking; None where nothing was reranked. RunDirectoryError where the file is damaged."""
    return read_json(layout.rerank_record, CrossEncoderRerankRun)
