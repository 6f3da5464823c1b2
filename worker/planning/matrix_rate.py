"""Measure how fast this host multiplies matrices, which limits forward passes on a CPU."""

from __future__ import annotations

import time

import numpy as np

SIDE = 512
SECONDS = 0.3


def matrix_rate(seconds: float = SECONDS) -> float:
    """Floating-point operations a second of float32 products on all cores, the fastest of those within `seconds`."""
    generator = np.random.default_rng(0)
    left, right = generator.standard_normal((2, SIDE, SIDE), np.float32)
    out = np.empty_like(left)
    np.matmul(left, right, out=out)  # starts the library's threads
    fastest, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        np.matmul(left, right, out=out)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * SIDE**3 / fastest
