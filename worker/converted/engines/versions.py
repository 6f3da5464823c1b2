"""The library that computes a conversion, and the versions of libraries on which the conversion depends."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from ....protocol.spec.run_spec import PassSpec

EngineName = Literal["openvino", "onnx"]
"""By the names of --backend."""
LIBRARY: dict[EngineName, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
OTHERS = ("torch", "transformers", "sentence-transformers")
"""The libraries that computed the reference results."""


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
