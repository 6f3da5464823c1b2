"""A model's own ONNX graph, computed by ONNX Runtime on this processor."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ....protocol.wire.arrays import Array
from ...device.streams import MOST_STREAMS, streams_of
from ...encoders.base import OutOfMemory
from ..record import ModelRecord
from .graph_error import GraphError
from .guarded import guarded
from .onnx_head import OnnxHead, Weights
from .onnx_runtime import import_onnxruntime

T = TypeVar("T")
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""Inputs that a graph may have. Token types are those of the tokenizer, or 0."""
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
"""The types that an input may have."""
NOISE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src/\S+:\d+ [^)]*\) ")
"""Parts of ONNX Runtime's messages to leave out: the kind of error, and its place in the source code."""


class OnnxSession:
    """A loaded graph. GraphError if it cannot be loaded, or has an input that we cannot give."""

    def __init__(self, path: Path, threads: int) -> None:
        runtime = import_onnxruntime()
        options: Any = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # micro-batches are of many shapes
        options.log_severity_level = 4  # its errors are raised
        for kind in ("intra_op", "inter_op"):
            options.add_session_config_entry(f"session.{kind}.allow_spinning", "0")
        self._session: Any = translated(
            lambda: runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        )
        self.outputs: dict[str, str] = {one.name: one.type for one in self._session.get_outputs()}
        """Types by name."""
        self._inputs = {one.name: _input_type(one) for one in self._session.get_inputs()}
        if "input_ids" not in self._inputs:
            raise GraphError(f"it has no input_ids: it takes {', '.join(self._inputs)}")

    def run(self, output: str, inputs: Sequence[Array]) -> Array:
        """An output for padded token ids, mask, and token types if there are any. May be called by several threads."""
        ids, mask, *types = inputs
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types[0] if types else np.zeros_like(ids)}
        given["position_ids"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        feeds = {name: np.ascontiguousarray(given[name], kind) for name, kind in self._inputs.items()}
        return translated(lambda: self._session.run([output], feeds)[0])


class OnnxEngine:
    """Computes in float32. `streams`: how many batches it computes at a time, on threads that do not wait for each
    other. GraphError if the graph cannot be loaded."""

    dtype = "float32"
    has_bfloat16 = False

    def __init__(self, path: Path, record: ModelRecord, weights: Weights, threads: int) -> None:
        assert record.exported is not None, "the record is that of a graph"
        self._output = record.exported.output
        self._head = OnnxHead(record.kind, record.exported, weights)
        pooled = record.kind == "dense" and not record.exported.steps
        self._rank = 2 if pooled or record.kind == "rerank" else 3
        self.streams, _ = streams_of(threads, MOST_STREAMS)
        self._session = OnnxSession(path, threads - self.streams + 1)  # the streams share its threads
        self._threads = ThreadPoolExecutor(self.streams, thread_name_prefix="onnx")

    def start(self, inputs: Sequence[Array]) -> Future[list[Array]]:
        """Begin to compute a batch."""
        return self._threads.submit(lambda: guarded(lambda: self._computed(inputs)))

    def _computed(self, inputs: Sequence[Array]) -> list[Array]:
        found = self._session.run(self._output, inputs)
        ids, mask = inputs[:2]
        if found.ndim != self._rank or found.shape[:-1] != ids.shape[: self._rank - 1]:
            raise GraphError(f"its {self._output} has the shape {[*found.shape]} for inputs of {[*ids.shape]}")
        return self._head(found, mask.sum(axis=1).tolist())


def translated(step: Callable[[], T]) -> T:
    """The result of a step of ONNX Runtime, whose errors are of many classes; GraphError or OutOfMemory if it fails."""
    try:
        return guarded(step)
    except (MemoryError, OutOfMemory):
        raise
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
        raise GraphError(f"ONNX Runtime says: {NOISE.sub('', line)[:300]}") from error


def _input_type(one: Any) -> Any:
    """The numpy type of an input. GraphError if it is not one of INPUTS, or has a fixed size."""
    if one.name not in INPUTS:
        raise GraphError(f"it takes {one.name}, which is not known here")
    if one.type not in TYPES:
        raise GraphError(f"its {one.name} is {one.type}, and not of integers")
    fixed = [size for size in one.shape or () if isinstance(size, int)]
    if fixed:
        raise GraphError(
            f"its {one.name} is fixed to the shape {[*one.shape]}; export it with dynamic axes for texts and tokens"
        )
    return TYPES[one.type]
