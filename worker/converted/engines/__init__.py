"""The libraries that compute a conversion: OpenVINO for its own graph, ONNX Runtime for that of the model's repository."""
