"""bge-m3 in one pass: a dense vector, sparse weights and late-interaction vectors from one forward pass.

Source: Chen et al. 2024, "M3-Embedding: Multi-Linguality, Multi-Functionality, Multi-Granularity Text Embeddings
Through Self-Knowledge Distillation", and what FlagEmbedding's `BGEM3FlagModel` computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.arrays import Array
from ..models.locate import ModelFiles
from .base import FloatArray, IntArray, Launched, Prepared, kept_dim
from .heads import HeadsResults, M3Row
from .multivector import pool_tokens, pooled, token_pooling
from .text_model import TextEncoder

if TYPE_CHECKING:  # it imports torch
    from ..backends.heads import Packed

HEADS = ("sparse_linear", "colbert_linear")
"""Files `NAME.pt` beside the backbone's weights, each the state of a linear layer, read with `weights_only=True`."""
QUERY_BATCH = 32


class BgeM3Encoder(HeadsResults, TextEncoder):
    """`compute` returns a list of M3Row. Documents' token vectors are pooled as those of a MultiVectorEncoder."""

    kind = "bge-m3"
    packs_queries = True
    MODULES = (*TextEncoder.MODULES, "_sparse", "_colbert")

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        pooling_of = token_pooling(spec.pool_factor)
        super().__init__(spec, files, device, threads)
        self._pooling = pooling_of
        if pooling_of is not None:
            self._token_dtype = self._torch.float32
        dim = int(self._first.get_embedding_dimension())  # of the backbone, which the heads take
        states = [_read_head(self._torch, files, name, dim) for name in HEADS]
        self._sparse, self._colbert = (_linear(self._torch, state).to(self._dtype).eval() for state in states)
        self._parts += [self._sparse, self._colbert]
        names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
        ids: list[int | None] = [getattr(self._tokenizer, name, None) for name in names]
        self._special = sorted({one for one in ids if one is not None})
        width = int(self._colbert.out_features)
        pooling = pooled(self.described, spec.pool_factor)
        self._dim = kept_dim(spec, dim)
        self.fingerprint = self._make_fingerprint(self._dim, True, pooling)
        heads = "".join(_hash(files, name) for name in HEADS)
        found = (self.fingerprint.weights, self.fingerprint.weights_before)
        weights, before = (hashlib.sha256((one + heads).encode()).hexdigest() if one else "" for one in found)
        self.fingerprint = msgspec.structs.replace(
            self.fingerprint, token_dim=width, weights=weights, weights_before=before
        )
        self.row_bytes = 4 * self._dim + 8 * 128 + 2 * width * min(self._max_tokens, 256) // spec.pool_factor

    @property
    def described(self) -> str:
        """The model's modules, for the fingerprint."""
        return f"{type(self._first).__name__} → cls, sparse_linear(max), colbert_linear({self._colbert.out_features})"

    @property
    def layers(self) -> tuple[Any, Any]:
        """The linear layers of term weights and of token vectors."""
        return self._sparse, self._colbert

    @property
    def special(self) -> list[int]:
        """Token ids without a term weight."""
        return self._special

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        launched = super().launch(prepared, rows)
        return launched if self._pooling is None else PooledLater(launched, self._pooling)

    def queries(self, texts: Sequence[str], prompt: str | None) -> list[M3Row]:
        """All three results of each query, without token pooling."""
        chosen = prompt if prompt is not None else self.query_prompt()
        prepared = self._tokenize(texts, prompt=chosen)
        starts = range(0, len(texts), QUERY_BATCH)
        batches = [np.arange(at, min(at + QUERY_BATCH, len(texts)), dtype=np.int32) for at in starts]
        return [row for rows in batches for row in self._computed(prepared, rows, chosen)]

    def _forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return self._first(features)

    def _packed_head(self) -> Packed | str:
        from ..backends import heads

        return heads.heads(self._first, self._staging)

    def _results(self, outputs: dict[str, Any]) -> Callable[[], list[M3Row]]:
        normalize = self._torch.nn.functional.normalize
        if "tokens" not in outputs:
            outputs = self._flat(outputs)
        hidden, ids, lengths = outputs["tokens"], outputs["ids"], outputs["lengths"]
        vectors = normalize(self._colbert(hidden[outputs["others"]]).float(), dim=1)
        landing = self._staging.download(
            {
                "dense": normalize(hidden[outputs["starts"], : self._dim].float(), dim=1),
                "weights": self._sparse(hidden).squeeze(-1).relu().float(),
                "tokens": vectors.to(self._token_dtype),
            }
        )

        def finish() -> list[M3Row]:
            found = landing.wait()
            sparse = term_weights(ids, lengths, found["weights"], self._special)
            colbert = np.split(found["tokens"], np.cumsum(lengths - 1)[:-1])
            return [M3Row(*row) for row in zip(found["dense"], sparse, colbert, strict=True)]

        return finish

    def _flat(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The outputs of a forward pass with padding as `heads.heads` has them. Waits for the device."""
        mask = outputs["attention_mask"].bool()
        lengths = mask.sum(1)
        starts = lengths.cumsum(0) - lengths
        ids = outputs["input_ids"][mask]
        others = self._torch.ones_like(ids, dtype=self._torch.bool)
        others[starts] = False  # all but each text's first token
        return {
            "tokens": outputs["token_embeddings"][mask],
            "starts": starts,
            "others": others,
            "ids": ids.cpu().numpy(),
            "lengths": lengths.cpu().numpy(),
        }


@dataclass(frozen=True, slots=True)
class PooledLater:
    """A micro-batch whose token vectors are pooled when it is collected."""

    launched: Launched
    pooling: Callable[[Any], Any]

    def collect(self) -> list[M3Row]:
        return [replace(one, colbert=pool_tokens(self.pooling, one.colbert)) for one in self.launched.collect()]


def term_weights(
    ids: IntArray, lengths: IntArray, weights: FloatArray, special: Sequence[int]
) -> list[tuple[Array, Array]]:
    """The largest weight of each token id in a text, sorted by id, without special tokens and zeros.

    `ids` and `weights` are those of the texts' tokens one after the other.
    """
    kept = ~np.isin(ids, special) & (weights != 0)  # NaN is not equal to 0, so it is kept for `unusable` to find
    texts = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    keys = (texts[kept] << 32) | ids[kept].astype(np.int64)
    order = np.argsort(keys, kind="stable")
    terms, starts = np.unique(keys[order], return_index=True)
    largest = np.maximum.reduceat(weights[kept][order], starts) if len(terms) else np.empty(0, np.float32)
    ends = np.cumsum(np.bincount(terms >> 32, minlength=len(lengths)))[:-1]
    indices = (terms & 0xFFFFFFFF).astype(np.uint32)
    return list(zip(np.split(indices, ends), np.split(largest, ends), strict=True))


def _read_head(torch: Any, files: ModelFiles, name: str, dim: int) -> dict[str, Any]:
    path = files.folder / f"{name}.pt"
    if not path.is_file():
        raise ModelError(f"model {files.name}: {files.folder} has no {name}.pt, a head that bge-m3 ships; get it too")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        width = int(state["weight"].shape[1])
    except Exception as error:  # a damaged file, or one with more than tensors, fails in many ways
        raise ModelError(f"model {files.name}: {path} is not the state of a linear layer: {error}"[:500]) from error
    if width != dim or (name == "sparse_linear" and len(state["weight"]) != 1):
        shape = tuple(state["weight"].shape)
        raise ModelError(f"model {files.name}: {path} has a weight of shape {shape}; the backbone has {dim} dimensions")
    return state


def _linear(torch: Any, state: dict[str, Any]) -> Any:
    outputs, inputs = state["weight"].shape
    layer = torch.nn.Linear(inputs, outputs, bias="bias" in state)
    layer.load_state_dict(state)
    return layer


def _hash(files: ModelFiles, name: str) -> str:
    return hashlib.sha256((files.folder / f"{name}.pt").read_bytes()).hexdigest()
