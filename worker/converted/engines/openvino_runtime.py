"""Import OpenVINO so that it sends no data on its use, and check in which dtypes it computes on this processor."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from ....protocol.errors import ModelError

TELEMETRY = "openvino_telemetry"
HINTS = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names of the dtypes that it computes in on a CPU."""
CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16"}
"""The capability of a processor that a dtype needs, in OpenVINO's words."""
ACTIVATIONS = ("Swish", "Gelu")
"""Operations whose product with another one OpenVINO computes together with the layers around it."""


def is_installed() -> bool:
    """Whether OpenVINO can be imported."""
    return importlib.util.find_spec("openvino") is not None


def import_openvino() -> Any:
    """The module openvino. It would send data on its use, and write a file into the home folder, if it could import TELEMETRY;
    here it cannot. ModelError if OpenVINO is not installed."""
    sys.modules.setdefault(TELEMETRY, None)  # pyright: ignore[reportArgumentType] - None stops the import
    try:
        import openvino
    except ImportError as error:
        raise ModelError("--backend openvino needs it: pip install 'embedfleet[openvino]'") from error
    return openvino


def check_dtype(core: Any, dtype: str) -> None:
    """Raise ModelError if this processor cannot compute in `dtype`: OpenVINO would silently use float32."""
    if dtype not in HINTS:
        raise ModelError(f"--dtype {dtype}: OpenVINO computes in {' or '.join(HINTS)}; give one of these")
    if not has_capability(core, dtype):
        raise ModelError(
            f"--dtype {dtype}: this processor cannot compute in it; give --dtype float32, or --backend torch"
        )


def has_capability(core: Any, dtype: str) -> bool:
    """Whether this processor has instructions for `dtype`, one of HINTS."""
    return CAPABILITIES[dtype] in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def has_gated_layers(graph: Any) -> bool:
    """Whether the graph multiplies an activation with something: a gated feed-forward layer, as in Qwen3 and ModernBERT."""
    return any(
        target.get_node().get_type_name() == "Multiply"
        for operation in graph.get_ops()
        if operation.get_type_name() in ACTIVATIONS
        for target in operation.output(0).get_target_inputs()
    )
