"""bge-m3 in one pass: a dense vector, sparse weights and late-interaction vectors from one forward pass.

Source: Chen et al. 2024, "M3-Embedding: Multi-Linguality, Multi-Functionality, Multi-Granularity Text Embeddings
Through Self-Knowledge Distillation", and what FlagEmbedding's `BGEM3FlagModel` computes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.arrays import Array
from ..models.locate import ModelFiles
from .base import IntArray, Prepared, kept_dim
from .heads import HeadsResults, M3Row
from .multivector import pooled, token_pooling
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

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        pooling_of = token_pooling(spec.pool_factor)
        super().__init__(spec, files, device, threads)
        self._pooling = pooling_of
        dim = int(self._first.get_embedding_dimension())  # of the backbone, which the heads take
        states = [_read_head(self._torch, files, name, dim) for name in HEADS]
        self._sparse, self._colbert = (_linear(self._torch, state).to(self._dtype).eval() for state in states)
        self._parts += [self._sparse, self._colbert]
        names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
        ids: list[int | None] = [getattr(self._tokenizer, name, None) for name in names]
        self._special: Any = self._torch.tensor(sorted({one for one in ids if one is not None}))
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
        return self._special.tolist()

    def compute(self, prepared: Prepared, rows: IntArray) -> list[M3Row]:
        found: list[M3Row] = super().compute(prepared, rows)
        if self._pooling is None:
            return found
        tensor = self._torch.from_numpy
        return [replace(one, colbert=self._pooling(tensor(one.colbert)).numpy()) for one in found]

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

        return heads.heads(self._first, self._device)

    def _results(self, outputs: dict[str, Any]) -> list[M3Row]:
        torch = self._torch
        normalize = torch.nn.functional.normalize
        hidden, ids, lengths = outputs["token_embeddings"], outputs["input_ids"], outputs.get("lengths")
        mask = outputs["attention_mask"].bool()
        if lengths is None:
            lengths = mask.sum(1)
        hidden, ids = hidden[mask], ids[mask]  # the texts' tokens one after the other
        starts = lengths.cumsum(0) - lengths
        dense = normalize(hidden[starts, : self._dim].float(), dim=1).cpu().numpy()
        sparse = self._term_weights(ids, lengths, self._sparse(hidden).squeeze(-1).relu().float())
        others = torch.ones_like(ids, dtype=torch.bool)
        others[starts] = False  # all but each text's first token
        vectors = normalize(self._colbert(hidden[others]).float(), dim=1)
        colbert = [one.numpy() for one in vectors.cpu().split((lengths - 1).tolist())]
        return [M3Row(*row) for row in zip(dense, sparse, colbert, strict=True)]

    def _term_weights(self, ids: Any, lengths: Any, weights: Any) -> list[tuple[Array, Array]]:
        """The largest weight of each token id in a text, without special tokens and zeros. `ids` and `weights` are (tokens)."""
        torch = self._torch
        # NaN is not equal to 0, so it is kept for `unusable` to find.
        kept = ~torch.isin(ids, self._special.to(ids.device)) & (weights != 0)
        rows = torch.repeat_interleave(torch.arange(len(lengths), device=ids.device), lengths)
        keys = (rows[kept] << 32) | ids[kept].long()
        terms, term_of = torch.unique(keys, return_inverse=True)  # sorted: by row, then by id
        largest = weights.new_zeros(len(terms)).scatter_reduce_(0, term_of, weights[kept], "amax")
        ends = torch.bincount(terms >> 32, minlength=len(lengths)).cumsum(0)[:-1].cpu().numpy()
        indices: Array = (terms & 0xFFFFFFFF).cpu().numpy().astype(np.uint32)
        return list(zip(np.split(indices, ends), np.split(largest.cpu().numpy(), ends), strict=True))


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
