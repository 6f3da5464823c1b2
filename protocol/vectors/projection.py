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


@lru_cache(maxsize=8)
def projection(dim: int, fewer: int, seed: int = SEED) -> npt.NDArray[np.float32]:
    """A (dim, fewer) matrix with orthonormal columns; always the same for the same three arguments."""
    # RandomState's stream is frozen; that of a Generator may change with numpy.
    gaussian = np.random.RandomState(seed).standard_normal((dim, fewer))
    columns, triangle = np.linalg.qr(gaussian)
    # Fix the signs of the columns, which differ between linear algebra libraries.
    return (columns * np.sign(np.diag(triangle))).astype(np.float32)
