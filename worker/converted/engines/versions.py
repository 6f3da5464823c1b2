"""Which passes are computed without torch, by which library, and the versions that decide it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from ....protocol.spec.fake_models import PREFIX
from ....protocol.spec.run_spec import CPU_KINDS, PassSpec

EngineName = Literal["openvino", "onnx"]
"""By the names of --backend."""
LIBRARY: dict[EngineName, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
OTHERS = ("torch", "transformers", "sentence-transformers")
"""The libraries that computed the reference results."""


def is_convertible(spec: PassSpec) -> bool:
    """Whether an engine could compute the pass: it has a model's forward pass over documents or pairs. Queries are encoded by
    torch."""
    has_model = spec.kind not in CPU_KINDS and not spec.model.startswith(PREFIX)
    return has_model and (spec.side == "document" or spec.kind == "rerank")


def engine_of(spec: PassSpec) -> EngineName:
    """The engine that a pass would use. `auto` never takes ONNX Runtime, which was not faster than torch when measured."""
    return "onnx" if spec.backend == "onnx" else "openvino"


def library_versions(engine: EngineName) -> dict[str, str]:
    """Versions of the libraries on which a conversion depends, without importing them; empty if one is not installed."""
    return {name: _version(name) for name in (LIBRARY[engine], *OTHERS)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
