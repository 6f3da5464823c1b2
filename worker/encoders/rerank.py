"""The cross-encoder in batches, under a worker's lease: a score for each (query, text) pair that travels as one text.

Batch sizes, halving on out-of-memory, deadlines and telemetry are those of every encoder; `rerank_run.py` keeps what
they came to, `exporter/ranking/ranking.py` the fused order of what could not be scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.text.query_pairs import split_pair
from .base import FloatArray, IntArray, Prepared, ScoreResults
from .cross_encoder import CrossEncoderScorer


class CrossEncoderBatchExecutor(ScoreResults, CrossEncoderScorer):
    """`compute` returns (rows,) float32."""

    row_bytes = 4

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return self.prepare_pairs([split_pair(text) for text in texts])

    def compute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        return self.score(prepared, rows)

    def recompute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        return self.rescore(prepared, rows)
