"""Load the encoder for a pass, computed by torch if it has a model. Only the chosen encoder's imports are loaded."""

from __future__ import annotations

from typing import Any

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ..models.locate import ModelFiles, find_model
from .base import Encoder


def load_encoder(spec: PassSpec, device: str, threads: int, files: ModelFiles | None = None) -> Encoder:
    """The encoder of a pass, with its weights in host memory. ModelError if it cannot be loaded.

    `files` are the model's, where they are known."""
    if spec.model.startswith("fake:"):
        return _fake(spec)  # fake models encode queries as documents
    encoder: Any = _load(spec, device, threads, files)
    if spec.side == "document" or spec.kind == "rerank":
        return encoder
    from .query_side import QuerySide

    return QuerySide(encoder, spec.prompt)


def _load(spec: PassSpec, device: str, threads: int, files: ModelFiles | None) -> Encoder:
    if spec.kind == "bm25":
        from .bm25 import Bm25Encoder

        return Bm25Encoder(spec)
    return encoder_of(spec, files or find_model(spec), device, threads)


def encoder_of(spec: PassSpec, files: ModelFiles, device: str, threads: int) -> Any:
    """The encoder of a model whose files were found: of documents, and of queries too unless it is a reranker."""
    match spec.kind:
        case "dense":
            from .dense import DenseEncoder

            return DenseEncoder(spec, files, device, threads)
        case "sparse":
            from .sparse import SparseVectorGenerator

            return SparseVectorGenerator(spec, files, device, threads, spec.max_active_dims)
        case "multivector":
            from .multivector import MultiVectorEncoder

            return MultiVectorEncoder(spec, files, device, threads, spec.pool_factor)
        case "bge-m3":
            from .bge_m3 import BgeM3Encoder

            return BgeM3Encoder(spec, files, device, threads)
        case "rerank":
            from .cross_encoder import CrossEncoderBatchExecutor

            return CrossEncoderBatchExecutor(spec, files, device, threads)
        case _:
            raise ModelError(f"a pass of kind {spec.kind!r} needs no worker")


def _fake(spec: PassSpec) -> Encoder:
    if spec.kind == "dense":
        from .fake import FakeEncoder

        return FakeEncoder(spec)
    from . import fake_others

    match spec.kind:
        case "sparse":
            return fake_others.FakeSparseEncoder(spec)
        case "multivector":
            return fake_others.FakeMultivectorEncoder(spec)
        case "bge-m3":
            return fake_others.FakeHeadsEncoder(spec)
        case "rerank":
            return fake_others.FakeRerankEncoder(spec)
        case _:
            raise ModelError(f"model {spec.model!r}: there is no fake encoder of kind {spec.kind!r}")
