"""The cross-encoder as an encoder of pairs: a score for each (query, text) that travels as one text."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.pairs import split_pair
from .base import FloatArray, IntArray, Prepared, ScoreResults
from .cross_encoder import CrossEncoderScorer


class RerankEncoder(ScoreResults, CrossEncoderScorer):
    """`compute` returns (rows,) float32."""

    row_bytes = 4

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return self.prepare_pairs([split_pair(text) for text in texts])

    def compute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        return self.score(prepared, rows)

    def recompute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        return self.rescore(prepared, rows)
