"""A converted model, compiled by OpenVINO for this processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....protocol.errors import ModelError
from ....protocol.host.free_cores import allowed_cores
from ....protocol.wire.arrays import Array
from ..cache import GRAPH
from .guarded import guarded
from .openvino_runtime import HINTS, check_dtype, has_capability, has_gated_layers, import_openvino

GATED_THREADS = 2
"""In bfloat16, the threads that a stream needs for a graph with gated layers: with one, OpenVINO 2026.4 divides by zero as it
compiles them for a processor with AMX, and the process ends. See github.com/openvinotoolkit/openvino/issues/33300."""


class OpenVinoEngine:
    """`dtype` is what it computes in, as read back; ModelError if another one was requested. `has_bfloat16`: whether it
    could compute in bfloat16 instead. `streams`: how many batches it computes at a time."""

    def __init__(self, folder: Path, dtype: str, threads: int) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        check_dtype(core, dtype)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",  # OpenVINO chooses the number of streams
            "INFERENCE_PRECISION_HINT": HINTS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # the worker is pinned
        }
        graph: Any = guarded(lambda: core.read_model(str(folder / GRAPH)))
        if dtype == "bfloat16" and has_gated_layers(graph):
            threads = min(threads, len(allowed_cores()))  # OpenVINO starts no more
            if threads < GATED_THREADS:
                raise ModelError(
                    "--dtype bfloat16: OpenVINO needs two processors a worker for this model, and here is one; give fewer "
                    "devices in --devices, or --dtype float32, or --backend torch"
                )
            settings["NUM_STREAMS"] = threads // GATED_THREADS
        compiled: Any = guarded(lambda: core.compile_model(graph, "CPU", settings))
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if found != HINTS[dtype]:
            raise ModelError(
                f"--dtype {dtype}: OpenVINO computes in {found} here; give another --dtype, or --backend torch"
            )
        self.dtype = dtype
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        self.has_bfloat16 = dtype == "float32" and has_capability(core, "bfloat16")
        self._compiled, self._idle = compiled, list[Any]()

    def start(self, inputs: Sequence[Array]) -> StartedRequest:
        """Begin to compute a batch. Raises OutOfMemory."""
        return guarded(lambda: self._started(list(inputs)))

    def _started(self, inputs: list[Array]) -> StartedRequest:
        request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        request.start_async(inputs, share_inputs=True)
        return StartedRequest(request, inputs, self._idle)


class StartedRequest:
    """A batch that OpenVINO computes. It keeps the inputs, which OpenVINO does not copy."""

    def __init__(self, request: Any, inputs: list[Array], idle: list[Any]) -> None:
        self._request, self._inputs, self._idle = request, inputs, idle

    def result(self) -> list[Array]:
        """The graph's outputs. Raises OutOfMemory. After that the request is used again."""
        found = guarded(self._outputs)
        self._idle.append(self._request)
        return found

    def _outputs(self) -> list[Array]:
        self._request.wait()
        outputs = (self._request.get_output_tensor(place).data for place in range(len(self._request.model_outputs)))
        return [np.array(one, np.float32) for one in outputs]
