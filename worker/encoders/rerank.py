"""The cross-encoder as an Encoder: a score for each (query, text) pair, which is sent as one text.

Batch sizes, out-of-memory, deadlines and telemetry are those of every encoder. `rerank_run.py` records the figures;
`exporter/ranking/ranking.py` keeps the fused order of pairs without a score.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.text.query_pairs import split_pair
from .base import Prepared, ScoreResults
from .cross_encoder import CrossEncoderScorer


class CrossEncoderBatchExecutor(ScoreResults, CrossEncoderScorer):
    """`compute` returns (rows,) float32."""

    row_bytes = 4

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return self.prepare_pairs([split_pair(text) for text in texts])
