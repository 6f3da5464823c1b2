"""Use a compiled model if it computes the same numbers faster."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ..agreement import agree, agreement
from ..packed_model import PackedModel
from .backbone import CompiledBackbone
from .kernels import compiling

LONG_SECONDS = 60.0
"""A pass that is expected to last less on its device, as measured, does not repay the compiler's time."""
FASTER = 1.03
"""How many times as fast the compiled model must be: less may be noise."""
ROUNDS, REPEATS = 3, 4
"""Measurements of each way, in turn, and micro-batches in each."""


MIXED = (8, 16, 32, 64, 96, 128)
"""Words, of two tokens each, of the texts that a model is compiled for."""


class Launched(Protocol):
    """A micro-batch that the device computes."""

    def collect(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """Texts of our own. What is compiled suits micro-batches of their size best."""

    tokens: int
    """Of a micro-batch."""
    depth: int
    """How many of them are open at once in a pass."""
    launch: Callable[[], Launched]
    """Begins to compute the micro-batch, as the model is now."""
    launch_probes: Callable[[], Launched]
    """The same for the texts in `expected`."""
    expected: Any
    """Their results as they should be."""

    def compute(self, times: int) -> Any:
        """The results of the micro-batch, computed so many times."""
        result, launched = None, deque[Launched]()
        for _ in range(times):
            launched.append(self.launch())
            if len(launched) == self.depth:
                result = launched.popleft().collect()
        while launched:
            result = launched.popleft().collect()
        return result


@dataclass(frozen=True, slots=True)
class Outcome:
    """`described` follows the backend in `placements`; empty if there was no trial. `notes` say why the trial failed."""

    described: str = ""
    notes: tuple[str, ...] = ()


def try_compiled(model: PackedModel, backend: Any, dtype: str, sample: Sample, expected_tokens: int) -> Outcome:
    """Compile a model for a pass of so many tokens, if that is long enough, and use it if it is faster. Whatever fails, the
    model computes as before."""
    sample.compute(1)
    if expected_tokens < LONG_SECONDS * _speed(sample):
        return Outcome()
    compiled = CompiledBackbone(model, backend)
    try:
        verdict = _compare(model, compiled, dtype, sample)
    except Exception as error:  # noqa: BLE001 - compilers, kernels and drivers raise errors of any class
        verdict, note = None, f"not compiled: {_summary(error)}"
    else:
        note = ""
    if verdict is not None and verdict.is_better:
        return Outcome(f", compiled ({verdict.described})")
    compiled.turn_off()
    if verdict is not None:
        return Outcome(f", not compiled ({verdict.described})")
    sample.compute(1)  # fails too if the device is the cause
    return Outcome(notes=(note,))


@dataclass(frozen=True, slots=True)
class _Verdict:
    is_better: bool
    described: str


def _compare(model: PackedModel, compiled: CompiledBackbone, dtype: str, sample: Sample) -> _Verdict:
    """Compile, and compare numbers and speed with those of the model as it was."""
    before = sample.compute(1)
    start = time.monotonic()
    with compiling(_key(model, dtype)):
        compiled.turn_on_and_compile()
        ours = sample.compute(1)
    took = time.monotonic() - start
    compiled.turn_on()
    probes = sample.launch_probes().collect()
    found = agreement(ours, before), agreement(probes, sample.expected)
    least = float(np.min(found))  # NaN if one is NaN
    if not agree(least, probes, dtype):
        return _Verdict(False, f"its results agree to {least:.6f} only")
    speed, plain_speed = 0.0, 0.0
    for _ in range(ROUNDS):
        compiled.turn_off()
        plain_speed = max(plain_speed, _speed(sample))
        compiled.turn_on()
        speed = max(speed, _speed(sample))
    rates = f"{speed:,.0f} tokens/s, {plain_speed:,.0f} otherwise; {took:.0f} s to compile; {least:.6f}"
    return _Verdict(speed > FASTER * plain_speed, rates)


def _speed(sample: Sample) -> float:
    """Tokens a second."""
    start = time.perf_counter()
    sample.compute(REPEATS)
    return REPEATS * sample.tokens / (time.perf_counter() - start)


def _key(model: PackedModel, dtype: str) -> str:
    """Of what is compiled: the same for models that differ in their weights only."""
    device = next(model.backbone.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = (model.backbone.config.to_json_string(), dtype, name, torch.__version__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _summary(error: BaseException) -> str:
    """The first line of a message; of the compiler's own, if torch wraps it."""
    error = getattr(error, "inner_exception", error)
    first = (str(error).strip() or type(error).__name__).split("\n", 1)[0]
    return f"{type(error).__name__}: {first}"[:300]
