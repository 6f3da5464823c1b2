"""Random orthonormal projections: reduce the dimensions of vectors and keep their angles approximately.

Onto k random dimensions, the dot product of two unit vectors changes by about 1/√k, however many dimensions they had: W. B.
Johnson and J. Lindenstrauss, Extensions of Lipschitz mappings into a Hilbert space, 1984. Orthonormal columns of the QR
decomposition of a Gaussian matrix: F. Mezzadri, How to generate random matrices from the classical compact groups, 2007.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

SEED = 17
"""Seed of every projection, recorded in the ensemble's fingerprint. Another seed makes other vectors."""

VECTOR_BITS, MATRIX_BITS = 27, 25
"""`project` rounds the numbers of vectors and matrix to multiples of 2^-27 and 2^-25. A sum of their products is a multiple of
2^-52 and below 2, so float64 holds it exactly, in whatever order it is added."""


@lru_cache(maxsize=8)
def projection(dim: int, fewer: int, seed: int = SEED) -> npt.NDArray[np.float32]:
    """A (dim, fewer) matrix with orthonormal columns; always the same for the same three arguments."""
    # RandomState's stream is frozen; that of a Generator may change with numpy.
    gaussian = np.random.RandomState(seed).standard_normal((dim, fewer))
    columns, triangle = np.linalg.qr(gaussian)
    # Fix the signs of the columns, which differ between linear algebra libraries.
    return (columns * np.sign(np.diag(triangle))).astype(np.float32)


def project(vectors: npt.NDArray[np.float32], fewer: int) -> npt.NDArray[np.float32]:
    """Unit vectors (rows, dim) in `fewer` dimensions: their product with `projection`.

    A row's result depends on that row alone, to the last bit. A plain product does not: how its sums are added depends on the
    row's place and on the number of rows, so equal texts would get different scores.
    """
    return (_rounded(vectors, VECTOR_BITS) @ _matrix(vectors.shape[1], fewer)).astype(np.float32)


@lru_cache(maxsize=8)
def _matrix(dim: int, fewer: int) -> npt.NDArray[np.float64]:
    return _rounded(projection(dim, fewer), MATRIX_BITS)


def _rounded(numbers: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float64]:
    """The nearest multiples of 2^-bits."""
    return np.rint(np.ldexp(numbers.astype(np.float64), bits)) * 2.0**-bits
