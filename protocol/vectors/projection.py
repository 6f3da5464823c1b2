"""Random orthonormal projections: vectors of more dimensions brought down to fewer, with their angles about as they were.

Onto k random dimensions, the dot product of two unit vectors changes by about 1/√k, however many dimensions they had: W. B.
Johnson and J. Lindenstrauss, Extensions of Lipschitz mappings into a Hilbert space, 1984. Orthonormal columns of the QR
decomposition of a Gaussian matrix: F. Mezzadri, How to generate random matrices from the classical compact groups, 2007.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

SEED = 17
"""Of every projection; an ensemble's fingerprint has it. Another one makes other vectors."""


@lru_cache(maxsize=8)
def projection(dim: int, fewer: int, seed: int = SEED) -> npt.NDArray[np.float32]:
    """(dim, fewer), its columns orthonormal; the same for the same three numbers."""
    # The stream of RandomState is frozen for good, that of a Generator may change with numpy.
    gaussian = np.random.RandomState(seed).standard_normal((dim, fewer))
    columns, triangle = np.linalg.qr(gaussian)
    # The signs are the library's choice: of which it is, nothing may depend.
    return (columns * np.sign(np.diag(triangle))).astype(np.float32)
