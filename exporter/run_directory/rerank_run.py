"""The section `rerank_run` of the manifest: pairs that a cross-encoder scored and could not score, and the cost."""

from __future__ import annotations

from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.json_bytes import pretty_json
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.candidates import CandidatesRecord
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.records.sections import CrossEncoderRerankRun
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import Truncation, segment_truncation, sum_truncations
from ...protocol.statistics.pass_stats import PassStats
from ...protocol.statistics.reason_count import ReasonCount

MOST_REASONS = 20


class FallbackCount:
    """Counts pairs, and the reasons of those without a score, in bounded memory."""

    def __init__(self) -> None:
        self.pairs = self.fallbacks = 0
        self._reasons = ReasonCount()

    def add(self, reason: str | None) -> None:
        """Count a pair; `reason` is None if it has a score."""
        self.pairs += 1
        if reason is not None:
            self.fallbacks += 1
            self._reasons.add(reason)

    def reasons(self) -> dict[str, int]:
        """The most frequent reasons, with their counts."""
        return dict(self._reasons.first(MOST_REASONS))


def describe_rerank(
    layout: RunLayout, found: CandidatesRecord, reranker: str, count: FallbackCount
) -> CrossEncoderRerankRun:
    """The section, from the counts and from the files of the run of the pairs."""
    scores = RunLayout(layout.scores)
    figures = next(iter(read_stats(scores).passes), PassStats.none(reranker))
    about = read_pass(scores, reranker) or PassRecord()
    scored = count.pairs - count.fallbacks
    truncation = _truncation(scores, reranker)
    return CrossEncoderRerankRun(
        model=about.model or figures.model,
        candidates=found.candidates,
        queries=found.queries,
        queries_without_candidates=found.without,
        pairs=count.pairs,
        scored=scored,
        fallbacks=count.fallbacks,
        reasons=count.reasons(),
        coverage=round(scored / count.pairs, 6) if count.pairs else 0.0,
        seconds=figures.seconds,
        batches=figures.batches,
        batch_rows=figures.batch_rows,
        batch_seconds=figures.batch_seconds,
        mitigations=figures.mitigations,
        device=figures.device,
        dtype=about.dtype or "",
        placement=figures.placement,
        peak_bytes=figures.peak_bytes,
        gpu_peak_bytes=figures.gpu_peak_bytes,
        truncated=truncation.truncated,
        tokens_cut=truncation.tokens_cut,
        tokens_cut_share=truncation.record()["tokens_cut_share"],
    )


def _truncation(scores: RunLayout, reranker: str) -> Truncation:
    paths = [scores.vector_segment(reranker, one) for one in segments_in(scores.vector_folder(reranker))]
    return sum_truncations(segment_truncation(path, read_info(path, VectorSegmentInfo)) for path in paths)


def keep_rerank(layout: RunLayout, section: CrossEncoderRerankRun | None) -> None:
    """Store the section for the next manifest; None deletes an earlier one."""
    if section is None:
        layout.rerank_record.unlink(missing_ok=True)
    else:
        commit_bytes(layout.rerank_record, pretty_json(section))
