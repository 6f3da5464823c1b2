"""A converted model, compiled by OpenVINO for this processor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....protocol.errors import ModelError
from ....protocol.wire.arrays import Array
from ..cache import GRAPH
from .guarded import guarded
from .openvino_runtime import HINTS, check_dtype, has_capability, import_openvino


class OpenVinoEngine:
    """`dtype` is what it computes in, as read back; ModelError if another one was requested. `has_bfloat16`: whether it
    could compute in bfloat16 instead. `streams`: how many batches it computes at a time."""

    def __init__(self, folder: Path, dtype: str, threads: int) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        check_dtype(core, dtype)
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT",  # OpenVINO chooses the number of streams
            "INFERENCE_PRECISION_HINT": HINTS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # the worker is pinned
        }
        compiled: Any = guarded(lambda: core.compile_model(str(folder / GRAPH), "CPU", settings))
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if found != HINTS[dtype]:
            raise ModelError(
                f"--dtype {dtype}: OpenVINO computes in {found} here; give another --dtype, or --backend torch"
            )
        self.dtype = dtype
        self.streams = int(compiled.get_property("NUM_STREAMS"))
        self.has_bfloat16 = dtype == "float32" and has_capability(core, "bfloat16")
        self._queue: Any = openvino.AsyncInferQueue(compiled, self.streams)
        self._found: dict[int, list[Array]] = {}
        self._queue.set_callback(self._collect)

    def compute(self, batches: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """The graph's outputs for each batch of inputs. The batches are computed at the same time. Raises OutOfMemory."""
        self._found = {}
        guarded(lambda: self._run(batches))
        return [self._found[number] for number in range(len(batches))]

    def _run(self, batches: Sequence[Sequence[Array]]) -> None:
        try:
            for number, inputs in enumerate(batches):
                self._queue.start_async(list(inputs), userdata=number, share_inputs=True)
        finally:
            self._queue.wait_all()

    def _collect(self, request: Any, number: int) -> None:
        outputs = (request.get_output_tensor(place).data for place in range(len(request.model_outputs)))
        self._found[number] = [np.array(one, np.float32) for one in outputs]  # a copy: the request is used again
