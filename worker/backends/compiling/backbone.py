"""The backbone of a packed model, compiled by torch.compile."""

from __future__ import annotations

from typing import Any

import torch

from ..packed_model import PackedModel


class CompiledBackbone:
    """`backend` is one of torch.compile's, or a function of its own. The model computes as before until it is turned on.

    It is one graph for any number of texts of any lengths: all sizes that vary are symbolic, also that of the longest text.
    """

    def __init__(self, model: PackedModel, backend: Any) -> None:
        self._backbone = model.backbone
        self._compiled = torch.compile(self._backbone._call_impl, fullgraph=True, dynamic=True, backend=backend)

    def turn_on_and_compile(self) -> None:
        """Compile when the model computes its next batch, and again for each one that does not fit what is compiled."""
        self._backbone._compiled_call_impl = self._compiled

    def turn_on(self) -> None:
        """Use what is compiled, and compile nothing more: other sizes are computed as if nothing were compiled."""
        self._backbone._compiled_call_impl = self._call

    def turn_off(self) -> None:
        """Compute as before."""
        self._backbone._compiled_call_impl = None

    def _call(self, *arguments: Any, **named: Any) -> Any:
        with torch.compiler.set_stance("eager_on_recompile"):
            return self._compiled(*arguments, **named)
