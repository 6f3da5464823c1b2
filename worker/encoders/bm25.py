"""BM25 term weights as sparse vectors, by Qdrant's own embedded implementation; IDF is the engine's part at search time.

Source of the weighting: Robertson, Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond".
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from ...protocol.errors import ModelError
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ...protocol.text.bm25_words import bounded_words
from .base import Immediate, IntArray, Prepared, SparseResults, TokenBudget

K, B, AVERAGE_LENGTH = 1.2, 0.75, 256.0
"""The usual constants, and Qdrant's default for an average length that was not measured."""


class Bm25Encoder(SparseResults, Immediate):
    """`compute` returns, for each row, (indices uint32 sorted, values float32)."""

    def __init__(self, spec: PassSpec) -> None:
        try:
            import qdrant_edge
        except ImportError as error:
            raise ModelError("--sparse bm25 needs qdrant-edge-py: pip install 'embedfleet[qdrant]'") from error
        average = spec.average_length or AVERAGE_LENGTH
        self._model: Any = qdrant_edge.Bm25(qdrant_edge.Bm25Config(k=K, b=B, avg_len=average))
        self.fingerprint = Fingerprint(
            model="bm25",
            revision="",
            weights="",
            dtype="float32",
            max_tokens=0,
            prompt="",
            query_prompt="",
            pooling="bm25 english",
            settings={"k": K, "b": B, "average_length": average},
            dim=0,
            normalized=False,
            versions={"qdrant-edge-py": version("qdrant-edge-py")},
        )
        self.batch_tokens = 131_072
        self.row_bytes = 1_024
        self.budget = TokenBudget(1 << 16, 1 << 16)
        self.pads = False

    def hydrate(self) -> str:
        return "host memory, float32"

    def prepare(self, texts: Sequence[str]) -> Prepared:
        lengths = np.array([(len(text) + 3) // 4 for text in texts], np.int32)
        return Prepared(lengths, np.zeros(len(texts), np.bool_), texts, np.zeros(len(texts), np.int32))

    def compute(self, prepared: Prepared, rows: IntArray) -> list[tuple[Any, Any]]:
        return [_sorted(self._model.embed_document(bounded_words(prepared.items[row]))) for row in rows.tolist()]

    def recompute(self, prepared: Prepared, rows: IntArray) -> list[tuple[Any, Any]]:
        return self.compute(prepared, rows)

    def queries(self, texts: Sequence[str], _prompt: str | None) -> list[tuple[Any, Any]]:
        """Query vectors: weight 1 for each term."""
        return [_sorted(self._model.embed_query(bounded_words(text))) for text in texts]


def _sorted(vector: Any) -> tuple[Any, Any]:
    indices = np.asarray(vector.indices, np.uint32)
    order = np.argsort(indices, kind="stable")
    return indices[order], np.asarray(vector.values, np.float32)[order]
