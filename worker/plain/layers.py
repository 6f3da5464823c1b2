"""The layers of BERT and similar models, in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..encoders.base import BoolArray, FloatArray

Activation = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Linear:
    """`weight` (out, in), `bias` (out) or None."""

    weight: FloatArray
    bias: FloatArray | None

    def __call__(self, rows: FloatArray) -> FloatArray:
        found = rows @ self.weight.T
        return found if self.bias is None else found + self.bias


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Layer normalization over the last dimension."""

    weight: FloatArray
    bias: FloatArray
    eps: float

    def __call__(self, rows: FloatArray) -> FloatArray:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        variance = np.square(centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + np.float32(self.eps)) * self.weight + self.bias


def attention(query: FloatArray, key: FloatArray, value: FloatArray, heads: int, seen: BoolArray | None) -> FloatArray:
    """Multi-head attention of one text: (tokens, dim) each. No token attends to those that are not `seen`."""
    tokens, dim = query.shape
    split = [one.reshape(tokens, heads, dim // heads).swapaxes(0, 1) for one in (query, key, value)]
    scores = split[0] @ split[1].swapaxes(1, 2) * np.float32((dim // heads) ** -0.5)
    if seen is not None:
        scores = np.where(seen, scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ split[2]).swapaxes(0, 1).reshape(tokens, dim)


def erf(x: FloatArray) -> FloatArray:
    """The error function, to 1.5e-7.

    Source: Abramowitz, Stegun 1964, "Handbook of Mathematical Functions", 7.1.26.
    """
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    total = np.zeros_like(x)
    for one in terms:
        total = (total + np.float32(one)) * t
    return np.copysign(1 - total * np.exp(-x * x), x)


def gelu(x: FloatArray) -> FloatArray:
    """Source: Hendrycks, Gimpel 2016, "Gaussian Error Linear Units (GELUs)"."""
    return x * np.float32(0.5) * (1 + erf(x * np.float32(0.5**0.5)))


def relu(x: FloatArray) -> FloatArray:
    return np.maximum(x, np.float32(0))


ACTIVATIONS: dict[str, Activation] = {"gelu": gelu, "relu": relu}


def unit(rows: FloatArray) -> FloatArray:
    """Each row brought to length 1."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(min=1e-12)
