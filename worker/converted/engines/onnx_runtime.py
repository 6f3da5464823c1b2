"""Import ONNX Runtime so that it sends no data on its use."""

from __future__ import annotations

import os
from typing import Any

from ....protocol.errors import ModelError

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """The module onnxruntime. ModelError if it is not installed.

    Its Linux builds send data on their use, and write an id into the user's cache as they are imported, unless the environment
    forbids it before.
    """
    os.environ[NO_TELEMETRY] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError("--backend onnx needs it: pip install 'embedfleet[onnx]'") from error
    disable: Any = getattr(onnxruntime, "disable_telemetry_events", None)
    if disable is not None:
        disable()
    return onnxruntime


def check_dtype(dtype: str) -> None:
    """Raise ModelError for another dtype than float32, the only one of the graphs that are computed."""
    if dtype not in ("auto", "float32"):
        raise ModelError(
            f"--dtype {dtype}: ONNX graphs are computed in their own type, which is float32; give that, or --backend torch"
        )
