"""Which library computes a conversion, and the versions that decide it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from ....protocol.spec.run_spec import PassSpec

EngineName = Literal["openvino", "onnx"]
"""By the names of --backend."""
LIBRARY: dict[EngineName, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
OTHERS = ("torch", "transformers", "sentence-transformers")
"""The libraries that made what the engine is compared with."""


def engine_of(spec: PassSpec) -> EngineName:
    """The engine that a pass would have. `auto` never takes ONNX Runtime: measured, it is no faster than torch."""
    return "onnx" if spec.backend == "onnx" else "openvino"


def library_versions(engine: EngineName) -> dict[str, str]:
    """Versions of the libraries that decide a conversion, without importing them; empty for one that is not installed."""
    return {name: _version(name) for name in (LIBRARY[engine], *OTHERS)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
