"""Dense vectors of any model that sentence-transformers loads: optionally truncated, L2-normalized, float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ...protocol.spec.run_spec import PassSpec
from ..models.loading import describe
from ..models.locate import ModelFiles
from ..models.similarity import COSINE, similarity_of
from .base import DenseResults, FloatArray, kept_dim
from .text_model import TextEncoder

if TYPE_CHECKING:  # it imports torch
    from ..backends.heads import Packed


class DenseEncoder(DenseResults, TextEncoder):
    """`compute` returns (rows, dim) float32."""

    task = "document"

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        super().__init__(spec, files, device, threads)
        dim = self._dim = kept_dim(spec, int(self._model.get_embedding_dimension()))
        similarity, _ = similarity_of(files.folder, files.name)
        self.fingerprint = msgspec.structs.replace(
            self._make_fingerprint(dim, True, describe(self._model)),
            similarity="" if similarity == COSINE else similarity,
        )
        self.row_bytes = 4 * dim

    def queries(self, texts: Sequence[str], prompt: str | None) -> FloatArray:
        """Query vectors (n, dim) by the model's query route; `prompt` None takes the model's query prompt."""
        encode = self._model.encode_query if self._side else self._model.encode
        vectors: FloatArray = encode(
            list(texts),
            prompt=prompt if prompt is not None else self.query_prompt(),
            truncate_dim=self._dim,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        vectors = np.asarray(vectors, np.float32)  # computed in half precision, their length may be 0.4% below 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)

    def _packed_head(self) -> Packed | str:
        from ..backends import heads

        return heads.dense(self._route, self._staging, bool(self._prompt_tokens))

    def _results(self, outputs: dict[str, Any]) -> Callable[[], FloatArray]:
        vectors = outputs["sentence_embedding"][:, : self._dim].float()
        landing = self._staging.download({"vector": self._torch.nn.functional.normalize(vectors, dim=1)})
        return lambda: landing.wait()["vector"]
