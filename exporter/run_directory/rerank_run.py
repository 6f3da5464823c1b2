"""The section `rerank_run` of the manifest: what a cross-encoder scored, what it could not, and what that took."""

from __future__ import annotations

from typing import Any

import msgspec

from ...protocol.finished_run.candidates import CandidatesRecord
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.run_json import read_object
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import Truncation, add_up, of_segment
from ...protocol.statistics.reason_count import ReasonCount

MOST_REASONS = 20


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
    batch_rows: dict[str, float]
    batch_seconds: dict[str, float]
    """`p50`, `p95` and `p99` among others: tokenizing and computing one batch."""
    mitigations: int
    """How often the micro-batch budget was changed, halvings on out-of-memory among them."""
    device: str
    dtype: str
    placement: str
    peak_bytes: int
    """Reserved by torch on a GPU; resident memory on a CPU."""
    gpu_peak_bytes: int = 0
    """In use on the GPU by NVML's samples, other tenants included; 0 on a CPU."""
    truncated: int | None = None
    """Pairs that were cut at the model's limit; None in a section of 0.1.0."""
    tokens_cut: int | None = None
    """Tokens that were cut off; None if they were not counted."""
    tokens_cut_share: float | None = None
    """The share of these in all tokens of the pairs."""


class FallbackCount:
    """Counts pairs and the reasons of those without a score, in bounded memory."""

    def __init__(self) -> None:
        self.pairs = self.fallbacks = 0
        self._reasons = ReasonCount()

    def add(self, reason: str | None) -> None:
        """A pair; None for one that has a score."""
        self.pairs += 1
        if reason is not None:
            self.fallbacks += 1
            self._reasons.add(reason)

    def reasons(self) -> dict[str, int]:
        """The most frequent ones."""
        return dict(self._reasons.first(MOST_REASONS))


def describe_rerank(
    layout: RunLayout, found: CandidatesRecord, reranker: str, count: FallbackCount
) -> CrossEncoderRerankRun:
    """The section, from the counts and from what the run of the pairs left."""
    scores = RunLayout(layout.scores)
    stats: dict[str, Any] = _object(scores.stats)
    figures: dict[str, Any] = next(iter(stats.get("passes", [])), {})
    about = _object(scores.pass_file(reranker))
    scored = count.pairs - count.fallbacks
    truncation = _truncation(scores, reranker)
    return CrossEncoderRerankRun(
        model=about.get("model") or figures.get("model", ""),
        candidates=found.candidates,
        queries=found.queries,
        queries_without_candidates=found.without,
        pairs=count.pairs,
        scored=scored,
        fallbacks=count.fallbacks,
        reasons=count.reasons(),
        coverage=round(scored / count.pairs, 6) if count.pairs else 0.0,
        seconds=figures.get("seconds", 0.0),
        batches=figures.get("batches", 0),
        batch_rows=figures.get("batch_rows", {}),
        batch_seconds=figures.get("batch_seconds", {}),
        mitigations=figures.get("mitigations", 0),
        device=figures.get("device", ""),
        dtype=about.get("dtype", ""),
        placement=figures.get("placement", ""),
        peak_bytes=figures.get("peak_bytes", 0),
        gpu_peak_bytes=figures.get("gpu_peak_bytes", 0),
        truncated=truncation.truncated,
        tokens_cut=truncation.tokens_cut,
        tokens_cut_share=truncation.record()["tokens_cut_share"],
    )


def _truncation(scores: RunLayout, reranker: str) -> Truncation:
    paths = [scores.vector_segment(reranker, one) for one in segments_in(scores.vector_folder(reranker))]
    return add_up(of_segment(path, read_info(path, VectorSegmentInfo)) for path in paths)


def keep_rerank(layout: RunLayout, section: CrossEncoderRerankRun | None) -> None:
    """Keep the section for the next time that the manifest is written; None forgets an earlier one."""
    if section is None:
        layout.rerank_record.unlink(missing_ok=True)
    else:
        commit_bytes(layout.rerank_record, msgspec.json.format(msgspec.json.encode(section), indent=2) + b"\n")


def kept_rerank(layout: RunLayout) -> dict[str, Any] | None:
    """The section that was kept, if there is one."""
    return _object(layout.rerank_record) or None


def _object(path: Any) -> dict[str, Any]:
    return read_object(path) or {}
