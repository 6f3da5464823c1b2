"""Learned sparse vectors of any model that sentence-transformers' `SparseEncoder` loads: SPLADE, its kin, and CSR.

Source: Formal, Piwowarski, Clinchant 2021, "SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.arrays import Array
from ..models.loading import describe
from ..models.locate import ModelFiles
from .base import SparseResults, TokenBudget
from .text_model import TextEncoder

if TYPE_CHECKING:  # it imports torch
    from ..backends.heads import Packed

PADDED_CUDA_BUDGET = TokenBudget(4_096, 32_768)
"""With padding, a token has a logit for each vocabulary entry: with 30,522 entries in bfloat16, 4,096 tokens take twice 250 MB.
Without, it has those of one tile of the vocabulary at a time."""
ACTIVE_DIMS = 256
"""Estimated weights of a document if the model has no limit."""


class SparseVectorGenerator(SparseResults, TextEncoder):
    """`compute` returns, for each row, (indices uint32 sorted, values float32 other than 0).

    If the model cannot be loaded or fails on a chunk, the exporter takes metadata weights (`metadata_weights.py`).
    """

    family = "SparseEncoder"
    kind = "sparse"
    task = "document"

    def __init__(
        self, spec: PassSpec, files: ModelFiles, device: str, threads: int, max_active_dims: int | None = None
    ) -> None:
        check_most(max_active_dims)
        super().__init__(spec, files, device, threads)
        self._most: int | None = max_active_dims if max_active_dims is not None else self._model.max_active_dims
        self.fingerprint = self._make_fingerprint(0, False, limited(describe(self._model), self._most))
        self.row_bytes = 8 * min(self._most or ACTIVE_DIMS, ACTIVE_DIMS)

    def _known_budget(self) -> TokenBudget:
        return PADDED_CUDA_BUDGET if self.pads and self._device.type == "cuda" else super()._known_budget()

    @property
    def most(self) -> int | None:
        """The most weights of a vector."""
        return self._most

    def queries(self, texts: Sequence[str], prompt: str | None) -> list[tuple[Array, Array]]:
        """Query vectors in the form of `compute`, by the model's query route; `prompt` None takes the model's query prompt."""
        weights = self._model.encode_query(
            list(texts),
            prompt=self._query_prompt(prompt),
            max_active_dims=self._most,
            convert_to_sparse_tensor=False,
            show_progress_bar=False,
        )
        return self._active(weights) if len(texts) else []

    def _packed_head(self) -> Packed | str:
        from ..backends import heads

        return heads.sparse(self._route, self._staging)

    def _forward(self, features: dict[str, Any]) -> dict[str, Any]:
        limits = {"max_active_dims": self._most} if self._most is not None else {}
        return self._model(features, **self._side, **limits)

    def _numbers_per_token(self) -> int:
        """With padding, a token has a logit for each vocabulary entry, and its activation is computed in steps."""
        vocabulary = int(self._model.get_embedding_dimension() or 0)
        if self.pads:
            return super()._numbers_per_token() + 3 * vocabulary
        from ..backends.vocabulary import TILE

        return super()._numbers_per_token() + min(TILE, vocabulary)

    def _results(self, outputs: dict[str, Any]) -> Callable[[], list[tuple[Array, Array]]]:
        from sentence_transformers.util import select_max_active_dims

        weights = select_max_active_dims(outputs["sentence_embedding"], max_active_dims=self._most)
        computed = self._staging.mark()

        def finish() -> list[tuple[Array, Array]]:
            with self._staging.behind(computed):  # how many weights there are is known only now
                return self._active(weights)

        return finish

    def _active(self, weights: Any) -> list[tuple[Array, Array]]:
        """The nonzero entries of (rows, vocabulary), selected on the device; with NaN, for `unusable` to find."""
        rows, columns = weights.nonzero(as_tuple=True)  # in order of row, then of column
        values: Array = weights[rows, columns].float().cpu().numpy()
        indices: Array = columns.cpu().numpy().astype(np.uint32)
        ends = self._torch.bincount(rows, minlength=len(weights)).cumsum(0)[:-1].cpu().numpy()
        return list(zip(np.split(indices, ends), np.split(values, ends), strict=True))


def check_most(most: int | None) -> None:
    """Raise ModelError for a limit of weights below 1."""
    if most is not None and most < 1:
        raise ModelError(f"max_active_dims {most}: give 1 or more")


def limited(described: str, most: int | None) -> str:
    """A model's modules with its limit of weights, for the fingerprint."""
    return described if most is None else f"{described} max_active_dims={most}"
