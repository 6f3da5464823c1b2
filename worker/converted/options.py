"""Apply the options of a pass to a converted model: limit, fingerprint, token pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...protocol.errors import ModelError
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ..encoders.base import FloatArray
from ..encoders.multivector import token_pooling
from ..models.locate import ModelFiles
from ..models.texts import query_prompt
from .engines.versions import EngineName, library_versions
from .record import ModelRecord


def engine_name(record: ModelRecord) -> EngineName:
    """The engine that the conversion is for."""
    return "openvino" if record.exported is None else "onnx"


def limit_of(spec: PassSpec, name: str, record: ModelRecord) -> int:
    """The most tokens of a text. ModelError if the pass requests more than the model takes."""
    own = record.tokens.limit
    if spec.max_tokens is not None and spec.max_tokens > own:
        raise ModelError(f"--max-tokens {spec.max_tokens}: {name} takes at most {own}")
    return own if spec.max_tokens is None else spec.max_tokens


def fingerprint_of(
    record: ModelRecord, files: ModelFiles, spec: PassSpec, limit: int, prompt: str, changes: dict[str, Any]
) -> Fingerprint:
    """The fingerprint of the pass; `changes` are fields that only some kinds change."""
    return msgspec.structs.replace(
        record.fingerprint,
        revision=files.revision,
        dtype="float32" if spec.dtype == "auto" else spec.dtype,
        max_tokens=limit,
        prompt=prompt,
        query_prompt=query_prompt(files.folder, files.name),
        versions=library_versions(engine_name(record)),
        **changes,
    )


def pooling_of(spec: PassSpec) -> Callable[[FloatArray], FloatArray] | None:
    """Token pooling of a multivector, if the pass asks for it. It imports torch."""
    pooling = token_pooling(spec.pool_factor)
    if pooling is None:
        return None
    import torch

    def pool(row: FloatArray) -> FloatArray:
        return pooling(torch.from_numpy(row)).numpy()

    return pool
