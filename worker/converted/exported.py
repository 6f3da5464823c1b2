"""Read from the modules of sentence-transformers how the outputs of a model's own ONNX graph become results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...protocol.wire.arrays import Array
from ..backends.pooling import modes_of
from .engines.graph_error import GraphError
from .engines.onnx_engine import OnnxSession
from .engines.onnx_head import ACTIVATIONS, POOLINGS
from .record import Exported, Step

TOKENS = ("last_hidden_state", "token_embeddings")
"""Names of outputs that are token vectors."""
POOLED = "sentence_embedding"
LOGITS = "logits"
NO_STEP = ("Dropout", "MultiVectorMask")
"""Modules that change no number. The tokens that a mask leaves out are in the ModelRecord."""
FLOAT32 = "tensor(float)"

Weights = dict[str, Array]


def exported_of(encoder: Any, folder: Path, path: str) -> tuple[Exported, Weights]:
    """The graph at `path` in the model's folder, and the weights of the modules after it. GraphError with the reason if it does
    not give what the kind needs, or if a module follows that is not computed here."""
    outputs = OnnxSession(folder / path, 1).outputs
    modules = encoder.route[1:]
    match encoder.kind:
        case "dense":
            return _dense(modules, outputs, path)
        case "sparse":
            (pooling,) = modules
            step = Step(name="SpladePooling", modes=(pooling.pooling_strategy,), activation=pooling.activation_function)
            return Exported(path=path, output=_output(outputs, (LOGITS,)), steps=(step,)), {}
        case "rerank":
            return Exported(path=path, output=_output(outputs, (LOGITS,))), {}
        case "multivector":
            output = _output(outputs, TOKENS)
            steps, weights = _steps(modules, TOKENS[1])
            return Exported(path=path, output=output, steps=steps), weights
        case _:
            weights: Weights = {}
            for name, layer in zip(("sparse", "colbert"), encoder.layers, strict=True):
                weights |= _linear(name, layer)
            return Exported(path=path, output=_output(outputs, TOKENS)), weights


def _dense(modules: Sequence[Any], outputs: dict[str, str], path: str) -> tuple[Exported, Weights]:
    """Take the token vectors if all modules after them are known, otherwise the pooled output of the graph."""
    if POOLED in outputs and not outputs.keys() & set(TOKENS):
        return Exported(path=path, output=_output(outputs, (POOLED,))), {}
    try:
        output = _output(outputs, TOKENS)
        steps, weights = _steps(modules, POOLED)
    except GraphError:
        if POOLED not in outputs:
            raise
        return Exported(path=path, output=_output(outputs, (POOLED,))), {}
    return Exported(path=path, output=output, steps=steps), weights


def _output(outputs: dict[str, str], names: Sequence[str]) -> str:
    found = next((one for one in names if one in outputs), None)
    if found is None:
        raise GraphError(f"its graph gives {', '.join(outputs)}, and not {' or '.join(names)}")
    if outputs[found] != FLOAT32:
        raise GraphError(f"its {found} is {outputs[found]}, and not of float32")
    return found


def _steps(modules: Sequence[Any], name: str) -> tuple[tuple[Step, ...], Weights]:
    """The modules that change the output of this name, and their weights."""
    steps: list[Step] = []
    weights: Weights = {}
    for module in modules:
        if type(module).__name__ in NO_STEP:
            continue
        step, own = _step(module, name, str(len(steps)))
        if (step.name == "Pooling") != (name == POOLED and not steps):
            raise GraphError(
                f"a {step.name} at the place {len(steps)} of its modules is not computed outside the graph"
            )
        steps.append(step)
        weights |= own
    return tuple(steps), weights


def _step(module: Any, name: str, place: str) -> tuple[Step, Weights]:
    kind = type(module).__name__
    sides = {getattr(module, side, name) for side in ("module_input_name", "module_output_name")}
    match kind:
        case "Pooling" if set(modes := modes_of(module)) <= POOLINGS.keys():
            return Step(name="Pooling", modes=modes), {}
        case "Dense" if sides == {name} and not module.use_residual:
            activation = type(module.activation_function).__name__
            if activation in ACTIVATIONS:
                return Step(name="Dense", activation=activation), _linear(place, module.linear)
            kind = f"Dense with {activation}"
        case "LayerNorm" if name == POOLED:
            return Step(name="LayerNorm", epsilon=module.norm.eps), _linear(place, module.norm)
        case "Normalize" if sides == {name}:
            return Step(name="Normalize"), {}
        case _:
            pass
    raise GraphError(f"its {kind} is not computed outside the graph")


def _linear(name: str, layer: Any) -> Weights:
    found = {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    return {key: one.detach().float().numpy().astype(np.float32) for key, one in found.items() if one is not None}
