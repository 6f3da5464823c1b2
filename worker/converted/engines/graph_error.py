"""An ONNX graph that ONNX Runtime cannot load or compute, or whose results have another shape."""


class GraphError(RuntimeError):
    """The message is one line, without the model's name."""
