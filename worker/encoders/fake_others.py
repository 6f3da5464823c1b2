"""Fake encoders of the other forms, from the fake dense one: for tests and for measuring the machinery without a model.

Sparse: a weight for each distinct word, `fake:N` hashing words to N terms. Multivector: a vector of N dimensions for each of
the first 32 words. Heads: all three of these, the dense one being what `--truncate-dim` shortens. Rerank: the share of the
query's words that the text has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ...protocol.spec.fake_models import PREFIX, parse_fake
from ...protocol.spec.run_spec import PassSpec
from ...protocol.text.query_pairs import split_pair
from ...protocol.wire.arrays import Array
from .base import IntArray, Prepared, ScoreResults, SparseResults
from .fake import FakeEncoder
from .heads import HeadsResults, M3Row
from .multivector import MultivectorResults

MOST_TOKENS = 32


class FakeSparseEncoder(SparseResults, FakeEncoder):
    """`compute` returns, for each row, (indices uint32 sorted, values float32)."""

    def __init__(self, spec: PassSpec) -> None:
        FakeEncoder.__init__(self, spec)
        self._terms = self.fingerprint.dim
        self.fingerprint = msgspec.structs.replace(self.fingerprint, dim=0, normalized=False, pooling="word hashes")
        self.row_bytes = 512

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        texts = [prepared.items[0][row] for row in rows.tolist()]
        self.misbehave(texts, int(prepared.lengths[rows].sum()))
        bad = self.nan_on
        weights = [self._weights(text, np.nan if bad is not None and bad in text else 1.0) for text in texts]
        return weights if not self.misshapes(texts) else [(indices, values[:-1]) for indices, values in weights]

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self.compute(prepared, rows)

    def _weights(self, text: str, factor: float) -> tuple[Array, Array]:
        counts: dict[int, int] = {}
        for word in text.split():
            index = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little") % self._terms
            counts[index] = counts.get(index, 0) + 1
        indices = sorted(counts)
        values = np.log1p(np.array([counts[index] for index in indices], np.float32)) * np.float32(factor)
        return np.array(indices, np.uint32), values


class FakeMultivectorEncoder(MultivectorResults, FakeEncoder):
    """`compute` returns, for each row, (tokens, dim) float32 unit vectors."""

    def __init__(self, spec: PassSpec) -> None:
        FakeEncoder.__init__(self, spec)
        self.row_bytes = 2 * self.fingerprint.dim * MOST_TOKENS

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        texts = [prepared.items[0][row] for row in rows.tolist()]
        self.misbehave(texts, int(prepared.lengths[rows].sum()))
        words = [text.split()[:MOST_TOKENS] for text in texts]
        flat = FakeEncoder.prepare(self, [word for some in words for word in some])
        vectors = FakeEncoder.vectors(self, flat.items[1])
        if self.nan_on is not None:
            vectors[[self.nan_on in word for some in words for word in some]] = np.nan
        if self.misshapes(texts):
            vectors = vectors[:, : self.fingerprint.dim // 2]
        return np.split(vectors, np.cumsum([len(some) for some in words])[:-1])

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self.compute(prepared, rows)


class FakeHeadsEncoder(HeadsResults, FakeEncoder):
    """`compute` returns, for each row, an M3Row. Faults on demand are those of the dense vector, once a micro-batch."""

    def __init__(self, spec: PassSpec) -> None:
        FakeEncoder.__init__(self, spec)
        dim, _ = parse_fake(spec.model)
        shape_on = f",shape_on={self._options['shape_on']}" if "shape_on" in self._options else ""
        plain = msgspec.structs.replace(spec, model=f"{PREFIX}{dim}{shape_on}", truncate_dim=None)
        self._sparse, self._late = FakeSparseEncoder(plain), FakeMultivectorEncoder(plain)
        pooling = f"{self.fingerprint.pooling}, word hashes, a vector a word"
        self.fingerprint = msgspec.structs.replace(self.fingerprint, pooling=pooling, token_dim=dim)
        self.row_bytes += self._sparse.row_bytes + self._late.row_bytes

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        dense = FakeEncoder.compute(self, prepared, rows)
        found = zip(dense, self._sparse.compute(prepared, rows), self._late.compute(prepared, rows), strict=True)
        return [M3Row(*row) for row in found]

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self.compute(prepared, rows)


class FakeRerankEncoder(ScoreResults, FakeEncoder):
    """`compute` returns (rows,) float32: the share of the query's words that stand in the text."""

    def __init__(self, spec: PassSpec) -> None:
        FakeEncoder.__init__(self, spec)
        self.fingerprint = msgspec.structs.replace(self.fingerprint, dim=0, normalized=False, pooling="shared words")
        self.row_bytes = 4

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        texts = [prepared.items[0][row] for row in rows.tolist()]
        self.misbehave(texts, int(prepared.lengths[rows].sum()))
        scores = np.array([_overlap(*split_pair(text)) for text in texts], np.float32)
        if self.nan_on is not None:
            scores[[self.nan_on in text for text in texts]] = np.nan
        return scores[:, None] if self.misshapes(texts) else scores

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self.compute(prepared, rows)


def _overlap(query: str, text: str) -> float:
    words: Sequence[str] = query.lower().split()
    return sum(word in text.lower() for word in words) / max(len(words), 1)
