"""The modules that follow an ONNX graph, in numpy: from one of its outputs to those of a converted graph (`graph.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ....protocol.wire.arrays import Array
from ...encoders.base import FloatArray
from ..record import Exported, Step
from ..results import unit
from .graph_error import GraphError

Weights = Mapping[str, Array]
"""By names such as `0.weight`: the place of the step, and its part."""


def _mean_sqrt(rows: FloatArray) -> FloatArray:
    return rows.sum(axis=0) / np.sqrt(np.float32(len(rows)))


def _weighted_mean(rows: FloatArray) -> FloatArray:
    weights = np.arange(1, len(rows) + 1, dtype=np.float32)
    return weights @ rows / weights.sum()


POOLINGS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "cls": lambda rows: rows[0],
    "max": lambda rows: rows.max(axis=0),
    "mean": lambda rows: rows.mean(axis=0),
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda rows: rows[-1],
}
"""From the vectors of a text's tokens (tokens, dim) to one, by the names of sentence-transformers."""
ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "Identity": lambda rows: rows,
    "Tanh": np.tanh,
    "ReLU": lambda rows: np.maximum(rows, np.float32(0)),
}


class OnnxHead:
    """Makes the outputs of a kind of encoder from the output of the graph, for padded texts."""

    def __init__(self, kind: str, exported: Exported, weights: Weights) -> None:
        self._make = _MAKE[kind]
        self._exported, self._weights = exported, weights

    def __call__(self, found: FloatArray, lengths: Sequence[int]) -> list[Array]:
        """The outputs, and last, for each text, a number that is not finite if one of its own is not."""
        with np.errstate(all="ignore"):  # NaN is found afterwards
            return self._make(self, found, lengths)

    def dense(self, found: FloatArray, lengths: Sequence[int]) -> list[Array]:
        if found.ndim == 2:  # the graph has pooled
            return [found, found.sum(axis=1)]
        rows = _rows(found, lengths)
        pooling, *rest = self._exported.steps
        pooled = np.stack([np.concatenate([POOLINGS[mode](row) for mode in pooling.modes]) for row in rows])
        return [self._stepped(pooled, rest, 1), _check(rows)]

    def multivector(self, found: FloatArray, lengths: Sequence[int]) -> list[Array]:
        shape = found.shape
        flat = self._stepped(found.reshape(-1, shape[-1]), self._exported.steps, 0)
        return [flat.reshape(*shape[:2], -1), _check(_rows(found, lengths))]

    def heads(self, found: FloatArray, lengths: Sequence[int]) -> list[Array]:
        sparse, colbert = (self._linear(found, name) for name in ("sparse", "colbert"))
        return [found, sparse[..., 0], colbert, _check(_rows(found, lengths))]

    def sparse(self, found: FloatArray, lengths: Sequence[int]) -> list[Array]:
        (pooling,) = self._exported.steps
        largest = [row.max(axis=0) for row in _rows(found, lengths)]
        check = np.array([row.max() for row in largest], np.float32)
        if pooling.modes == ("max",):  # the activation is monotonic, so it may follow the maximum
            return [_weights(np.stack(largest), pooling.activation), check]
        sums = [_weights(row, pooling.activation).sum(axis=0) for row in _rows(found, lengths)]
        return [np.stack(sums), check]

    def score(self, found: FloatArray, _lengths: Sequence[int]) -> list[Array]:
        if found.shape[1] != 1:
            raise GraphError(f"{self._exported.output} has {found.shape[1]} numbers a text, not one")
        return [found, found[:, 0]]

    def _stepped(self, rows: FloatArray, steps: Sequence[Step], first: int) -> FloatArray:
        for place, step in enumerate(steps, first):
            if step.name == "Normalize":
                rows = unit(rows)
            elif step.name == "LayerNorm":
                centred = rows - rows.mean(axis=1, keepdims=True)
                rows = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + np.float32(step.epsilon))
                rows = rows * self._weights[f"{place}.weight"] + self._weights[f"{place}.bias"]
            else:
                rows = ACTIVATIONS[step.activation](self._linear(rows, str(place)))
        return rows

    def _linear(self, rows: FloatArray, name: str) -> FloatArray:
        weight, bias = self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias")
        if rows.shape[-1] != weight.shape[1]:
            raise GraphError(f"{self._exported.output} has {rows.shape[-1]} dimensions, not {weight.shape[1]}")
        found = rows @ weight.T
        return found if bias is None else found + bias


def _rows(found: FloatArray, lengths: Sequence[int]) -> list[FloatArray]:
    """The texts' own numbers, without those of padding."""
    return [text[:length] for text, length in zip(found, lengths, strict=True)]


def _check(rows: Sequence[FloatArray]) -> FloatArray:
    return np.array([row.sum() for row in rows], np.float32)


def _weights(logits: FloatArray, activation: str) -> FloatArray:
    once = np.log1p(np.maximum(logits, np.float32(0)))  # NaN stays
    return np.log1p(once) if activation == "log1p_relu" else once


_MAKE: dict[str, Callable[[OnnxHead, FloatArray, Sequence[int]], list[Array]]] = {
    "dense": OnnxHead.dense,
    "sparse": OnnxHead.sparse,
    "multivector": OnnxHead.multivector,
    "rerank": OnnxHead.score,
    "bge-m3": OnnxHead.heads,
}
