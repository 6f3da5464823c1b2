"""What computes a conversion: OpenVINO its own graph, or ONNX Runtime the graph that the model's repository has."""
