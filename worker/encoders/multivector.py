"""Late-interaction vectors, one per token, of any model that sentence-transformers' `MultiVectorEncoder` loads.

Source: Khattab, Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction
over BERT".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...protocol.errors import ModelError
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.arrays import Array
from ..models.loading import describe
from ..models.locate import ModelFiles
from .base import BoolArray, FloatArray, IntArray, shape_of
from .text_model import TextEncoder

if TYPE_CHECKING:  # it imports torch
    from ..backends.heads import Packed

MAX_POINT_FLOATS = 1_048_576
"""The most numbers that Qdrant takes in a multivector of one point."""
LARGEST = float(np.finfo(np.float16).max)


class MultivectorResults:
    """`fits`, `gather` and `unusable` for encoders whose `compute` returns a list of (tokens, dim), float32 or float16."""

    fingerprint: Fingerprint

    def fits(self, part: Any, count: int, /) -> bool:
        dim = self.fingerprint.dim_of("multivector")
        return len(part) == count and all(shape_of(one) == (len(one), dim) for one in part)

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        dim = self.fingerprint.dim_of("multivector")
        placed: list[Array] = [np.empty((0, dim), np.float16)] * count
        for rows, part in parts:
            for row, tokens in zip(rows.tolist(), part, strict=True):
                placed[row] = tokens
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum([len(tokens) for tokens in placed], out=offsets[1:])
        vectors = np.empty((int(offsets[-1]), dim), np.float16)
        with np.errstate(over="ignore"):  # `unusable` has reported rows that overflow
            np.concatenate([vectors[:0], *placed], out=vectors, casting="same_kind")
        return {"offsets": offsets, "tokens": vectors}

    def unusable(self, part: Any) -> BoolArray:
        """Whether each row has no token, or a number that is not finite in float16."""
        return np.array([not (len(one) and np.abs(one).max() <= LARGEST) for one in part], np.bool_)

    def empty_too_large(self, part: Any, /) -> dict[int, str]:
        """As in Encoder; the limit is MAX_POINT_FLOATS."""
        refused = {
            position: f"{len(one):,} token vectors are {one.size:,} numbers, and Qdrant takes at most "
            f"{MAX_POINT_FLOATS:,} in a point; give --pool-factor, or fewer --max-tokens"
            for position, one in enumerate(part)
            if one.size > MAX_POINT_FLOATS
        }
        for position in refused:
            part[position] = part[position][:0].copy()  # a view would keep the whole array in memory
        return refused


class MultiVectorEncoder(MultivectorResults, TextEncoder):
    """`compute` returns a list of (tokens, dim), without the tokens that the model's skiplist drops: in float32, from a GPU
    in float16.

    `pool_factor` p keeps about 1/p of a document's tokens, by the reference's hierarchical pooling; 1 keeps all.
    """

    family = "MultiVectorEncoder"
    kind = "multivector"
    task = "document"

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int, pool_factor: float = 1.0) -> None:
        pooling_of = token_pooling(pool_factor)
        super().__init__(spec, files, device, threads)
        self._pooling = pooling_of
        if pooling_of is not None:
            self._token_dtype = self._torch.float32
        dim = int(self._model.get_embedding_dimension())
        last = [type(one).__name__ for one in self._model if type(one).__name__ != "MultiVectorMask"][-1]
        pooling = pooled(describe(self._model), pool_factor)
        self.fingerprint = self._make_fingerprint(dim, last == "Normalize" or self._pooling is not None, pooling)
        self._normalizes = last == "Normalize"
        self.row_bytes = int(2 * dim * min(self._max_tokens, 256) / pool_factor)

    @property
    def normalizes(self) -> bool:
        """Whether the model's last step makes unit vectors."""
        return self._normalizes

    def queries(self, texts: Sequence[str], prompt: str | None) -> list[FloatArray]:
        """Query vectors (tokens, dim), with the model's query expansion."""
        found: list[Any] = self._model.encode_query(
            list(texts), prompt=self._query_prompt(prompt), convert_to_numpy=True, show_progress_bar=False
        )
        return [np.asarray(one, np.float32) for one in found]

    def _packed_head(self) -> Packed | str:
        from ..backends import heads

        return heads.multivector(self._route, self._staging)

    def _results(self, outputs: dict[str, Any]) -> Callable[[], list[FloatArray]]:
        vectors, kept = outputs["token_embeddings"], outputs.get("kept")
        if kept is None:
            mask = outputs["attention_mask"].bool()
            vectors, kept = vectors[mask], mask.sum(1).cpu().numpy()
        vectors = vectors.float()
        if self._normalizes:  # again: in half precision, the model's own vectors may be 0.4% shorter than 1
            vectors = self._torch.nn.functional.normalize(vectors, dim=1)
        landing = self._staging.download({"tokens": vectors.to(self._token_dtype)})

        def finish() -> list[FloatArray]:
            rows = np.split(landing.wait()["tokens"], np.cumsum(kept)[:-1])
            return rows if self._pooling is None else [pool_tokens(self._pooling, row) for row in rows]

        return finish


def token_pooling(pool_factor: float) -> Callable[[Any], Any] | None:
    """A function that pools a document's token vectors (tokens, dim) to about 1/p unit vectors; None if p is 1.

    ModelError below 1. The reference's hierarchical pooling, as in Clavié, Chaffin, Adams 2024, "Reducing the Footprint of
    Multi-Vector Retrieval with Minimal Performance Impact via Token Pooling".
    """
    if pool_factor < 1:
        raise ModelError(f"pool_factor {pool_factor:g}: give 1 or more")
    if pool_factor == 1:
        return None
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    pooling: Any = HierarchicalTokenPooling(pool_factor)
    # Clustering refuses numbers that are not finite; leave such a row for `unusable` to find.
    return lambda row: pooling.pool_one(row) if row.isfinite().all() else row


def pool_tokens(pooling: Callable[[Any], Any], row: FloatArray) -> FloatArray:
    """Pool a document's token vectors (tokens, dim) by what `token_pooling` returned."""
    import torch

    return pooling(torch.from_numpy(row)).numpy()


def pooled(described: str, pool_factor: float) -> str:
    """A model's modules with the factor of token pooling, for the fingerprint."""
    return described if pool_factor == 1 else f"{described} pool_factor={pool_factor:g}"
