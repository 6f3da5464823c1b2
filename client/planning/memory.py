"""The memory that a pass needs on its device, estimated from the model's figures."""

from __future__ import annotations

from ...protocol.planning.model_figures import ModelFacts, weakest
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec
from .device_choice import PlannedDevices
from .plan import Figure, PlannedMemory

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
NUMBERS_A_DIMENSION = 16
"""Numbers of a token that a forward pass holds at the same time, for each dimension of the hidden states: as a worker assumes
(`worker/device/streams.py`)."""
ASSUMED_HIDDEN = 1_024
MICRO_BATCH_TOKENS = {True: 16_384, False: 1_024}
"""Of the first micro-batch on a GPU, and on a CPU (`worker/encoders/torch_model.py`). On a GPU it grows while there is room."""
OPEN = {True: 2, False: 1}
LIBRARIES = {True: 600 << 20, False: 700 << 20}
"""Of a CUDA context with its kernels; of torch and sentence-transformers in a worker's memory."""


def dtype_of(spec: PassSpec, devices: PlannedDevices) -> str:
    """The dtype of a pass. It is float32 for what has no model."""
    if spec.kind in CPU_KINDS or spec.model.startswith("fake:"):
        return "float32"
    if spec.dtype != "auto":
        return spec.dtype
    if not devices.half:
        return "float32"
    return devices.gpu.dtype if devices.gpu is not None else "bfloat16"


def memory_of(spec: PassSpec, facts: ModelFacts, devices: PlannedDevices) -> PlannedMemory | None:
    """The memory of one worker; None for a pass without a model, or one of which nothing is known."""
    if not facts.parameters or spec.kind in CPU_KINDS or not devices.count:
        return None
    size = BYTES[dtype_of(spec, devices)]
    weights = Figure(value=facts.parameters * size, basis=facts.basis)
    tokens = max(MICRO_BATCH_TOKENS[devices.is_gpu], min(facts.max_tokens, 1 << 17)) * OPEN[devices.is_gpu]
    working = Figure(value=tokens * size * NUMBERS_A_DIMENSION * (facts.hidden or ASSUMED_HIDDEN), basis="assumed")
    total = weights.value + working.value + LIBRARIES[devices.is_gpu]
    return PlannedMemory(
        weights=weights,
        working=working,
        total=Figure(value=total, basis=weakest(weights.basis, working.basis)),
        device=devices.names[0],
        device_bytes=devices.memory,
        enough=total <= devices.memory,
    )
