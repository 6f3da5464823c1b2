"""Relevance scores of (query, text) pairs by any model that sentence-transformers' `CrossEncoder` loads.

Source: Nogueira, Cho 2019, "Passage Re-ranking with BERT".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ...protocol.text.query_pairs import split_pair
from ..models.loading import describe
from ..models.locate import ModelFiles
from .base import FloatArray, Prepared, ScoreResults
from .text_model import TextModel

if TYPE_CHECKING:  # it imports torch
    from ..backends.heads import Packed


class CrossEncoderScorer(TextModel):
    """Scores pairs; not an Encoder. `compute` returns (rows,) float32, which may be NaN."""

    family = "CrossEncoder"
    kind = "rerank"

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        super().__init__(spec, files, device, threads)
        if self._model.num_labels != 1:
            raise ModelError(f"model {files.name} gives {self._model.num_labels} scores a pair; a reranker gives one")
        self._activation: Any = self._model.activation_fn
        pooling = f"{describe(self._model)} → {type(self._activation).__name__}"
        self.fingerprint = self._make_fingerprint(0, False, pooling)

    @property
    def activation(self) -> Any:
        """The module after the scores; None if there is none."""
        return self._activation

    def prepare_pairs(self, pairs: Sequence[tuple[str, str]]) -> Prepared:
        """Tokenize (query, text) pairs. In a pair that is too long, the longer side is cut first."""
        return self._tokenize([query for query, _ in pairs], [text for _, text in pairs], self._prompt)

    def _prepare_first(self, texts: Sequence[str]) -> Prepared:
        return self.prepare_pairs([("warm up", text) for text in texts])

    def _packed_head(self) -> Packed | str:
        from ..backends import heads

        return heads.score(self._route, self._staging)

    def _results(self, outputs: dict[str, Any]) -> Callable[[], FloatArray]:
        scores = outputs["scores"].float()  # before the activation, as the reference does: fewer ties
        if self._activation is not None:
            scores = self._activation(scores)
        landing = self._staging.download({"score": scores.reshape(-1)})
        return lambda: landing.wait()["score"]

    def _own_prompt(self) -> str:
        """The model's default prompt: sentence-transformers has no document and query prompts for pairs."""
        return self._model.prompts.get(self._model.default_prompt_name or "") or ""


class CrossEncoderBatchExecutor(ScoreResults, CrossEncoderScorer):
    """A CrossEncoderScorer as an Encoder: a query and a chunk are sent as one text.

    Batch sizes, out-of-memory, deadlines and telemetry are those of every encoder. `exporter/ranking/ranking.py` keeps the
    fused order of pairs without a score.
    """

    row_bytes = 4

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return self.prepare_pairs([split_pair(text) for text in texts])
