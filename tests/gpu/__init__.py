"""On a machine with an NVIDIA GPU only: `pytest tests/gpu`."""
