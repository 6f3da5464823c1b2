"""Choose how a model's batches are computed: without padding, or with padding as sentence-transformers does."""

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
"""Values of --backend that compute a model without torch, on CPUs."""
NOT_PACKED = ("torch", *ENGINES)
"""Values of --backend with which torch, if it is used, pads."""


class PackedChoice:
    """Computes without padding if the model can, and if the results agree with padded ones. `find` returns the model's forward
    pass without padding, or the reason why there is none. ModelError if there is none and `backend` is torch-packed."""

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
        """The choice and its reason, for `placements` in the record of the pass."""

    def renew(self) -> None:
        """Build the forward pass without padding again, after the weights were moved."""
        if self.packed is not None:
            found = self._find()
            assert not isinstance(found, str), "the model is the same"
            self.packed = found

    def always_padded(self) -> PackedChoice:
        """A choice that always pads, for a copy of the model."""
        return PackedChoice("torch", "", self._find)

    @contextmanager
    def padded(self) -> Generator[None]:
        """Compute with padding inside this block."""
        packed, self.packed = self.packed, None
        try:
            yield
        finally:
            self.packed = packed

    def compare(self, ours: Any, theirs: Any, dtype: str) -> None:
        """Pad from now on, unless the results without padding (`ours`) agree with the padded ones (`theirs`)."""
        found = agreement(ours, theirs)
        if agree(found, ours, dtype):
            self.described = f"torch-packed ({found:.6f} of torch)"
        else:
            self.packed, self.described = None, f"torch (without padding, its results agree to {found:.6f} only)"
