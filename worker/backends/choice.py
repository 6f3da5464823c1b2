"""Which of two ways computes a model's batches: without padding, or with it as sentence-transformers does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...protocol.errors import ModelError
from .agreement import agree, agreement

if TYPE_CHECKING:  # it imports torch
    from .heads import Packed

PROBES = (
    *(
        "a",
        "Naïve café — 東京",
        "A worker computes texts of any length, one after the other, and each as if it were alone.",
    ),
    "Of two ways to compute the same texts, one pads them to the longest, and the other does not. " * 4,
)
"""Texts that are computed in both ways before the first batch."""
ENGINES = ("openvino", "onnx")
"""Choices of --backend that compute a model without torch, on CPUs."""
NOT_PACKED = ("torch", *ENGINES)
"""Choices of --backend for which there is no forward pass without padding."""


class PackedChoice:
    """Without padding where there is such a way and its results are those with padding. `find` returns the model's forward
    pass without padding, or why there is none. ModelError if `backend` demands it and there is none."""

    def __init__(self, backend: str, model: str, find: Callable[[], Packed | str]) -> None:
        found = "as asked for" if backend in NOT_PACKED else find()
        if backend == "torch-packed" and isinstance(found, str):
            raise ModelError(
                f"--backend torch-packed: model {model} cannot be computed without padding: {found}; leave it out"
            )
        self._find = find
        self.packed: Packed | None = None if isinstance(found, str) else found
        """None: texts are padded."""
        self.described = f"torch ({found})" if isinstance(found, str) else "torch-packed"
        """The way and its reason, for the record."""

    def renew(self) -> None:
        """Make the way without padding anew, after the weights moved."""
        if self.packed is not None:
            found = self._find()
            assert not isinstance(found, str), "the model is the same"
            self.packed = found

    def always_padded(self) -> PackedChoice:
        """The other way, for a copy of the model."""
        return PackedChoice("torch", "", self._find)

    @contextmanager
    def padded(self) -> Generator[None]:
        """Pad meanwhile."""
        packed, self.packed = self.packed, None
        try:
            yield
        finally:
            self.packed = packed

    def compare(self, ours: Any, theirs: Any, dtype: str) -> None:
        """Pad from now on, unless the results without padding agree with those with it."""
        found = agreement(ours, theirs)
        if agree(found, ours, dtype):
            self.described = f"torch-packed ({found:.6f} of torch)"
        else:
            self.packed, self.described = None, f"torch (without padding, its results agree to {found:.6f} only)"
