"""A model's weights as float32 arrays. If the safetensors file has float32, they are mapped from it and not copied."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..encoders.base import FloatArray
from ..formats.safetensors_header import Tensor, read_tensors
from .not_plain import NotPlain, require

Weights = Callable[[str], FloatArray]
"""A tensor by its name. NotPlain if there is none."""


class WeightFile:
    """The tensors of one file, by name."""

    def __init__(self, path: Path) -> None:
        self._tensors = read_tensors(path)
        with path.open("rb") as file:
            self._start = 8 + int.from_bytes(file.read(8), "little")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __call__(self, name: str) -> FloatArray:
        """The tensor of this name. NotPlain if the file does not have it."""
        require(name in self._tensors, f"its weights have no {name}")
        return self._array(self._tensors[name])

    def _array(self, one: Tensor) -> FloatArray:
        first, end = one.data_offsets
        raw = memoryview(self._bytes)[self._start + first : self._start + end]
        match one.dtype:
            case "F32":
                found = np.frombuffer(raw, "<f4")
            case "F16":
                found = np.frombuffer(raw, "<f2").astype(np.float32)
            case "BF16":  # the upper half of a float32
                found = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
            case _:
                raise NotPlain(f"its weights are {one.dtype}")
        return found.reshape(one.shape)
