"""What a conversion imports."""

import contextlib

import embedfleet.worker.converted.conversion  # noqa: F401
import sentence_transformers  # noqa: F401
from embedfleet.protocol.errors import ModelError
from embedfleet.worker.converted.engines.openvino_runtime import import_openvino

with contextlib.suppress(ModelError):  # conversions of a model's own ONNX graph do without it
    import_openvino()
