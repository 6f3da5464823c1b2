"""Which encoder a pass wants. Heavy imports happen inside the chosen one."""

from __future__ import annotations

from ...protocol.spec import PassSpec
from .base import Encoder


def load_encoder(spec: PassSpec, device: str, threads: int) -> Encoder:
    """The encoder of a pass, weights in host memory; ModelError where it cannot be had."""
    if spec.kind == "bm25":
        from .bm25 import Bm25Encoder

        return Bm25Encoder(spec)
    if spec.model.startswith("fake:"):
        from .fake import FakeEncoder

        return FakeEncoder(spec)
    from ..model_files import find_model
    from .dense import DenseEncoder

    return DenseEncoder(spec, find_model(spec), device, threads)
