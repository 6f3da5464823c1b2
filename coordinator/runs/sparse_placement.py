"""Place learned sparse models by `auto`: on the CPU slot beside the GPUs, if that takes no more time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...protocol.errors import UsageError
from ...protocol.source.corpus import plain_bytes
from ...protocol.spec.run_spec import RunSpec
from ...protocol.text.token_estimates import BYTES_PER_TOKEN
from ...protocol.wire.devices import Device
from ...protocol.wire.run_options import RunOptions

CPU_TOKENS_PER_SECOND = 640.0
"""Of one thread, for a model of BERT-base's size in float32: a fifth of the rate of all-MiniLM-L6-v2, which is 6,400 to
6,500 on two threads (benchmarks/results/throughput-cpu-2-cores.json). The fifth is an estimate."""
MOST_THREADS = 32
"""More threads are assumed to gain nothing."""
GPU_TOKENS_PER_SECOND = 100_000.0
"""An estimate, on the low side for a GPU of a data centre; not measured."""
GPU_START_SECONDS = 10.0
"""An estimate: a CUDA context, moving the weights, the first kernels, and the delay of the other passes."""


@dataclass(frozen=True, slots=True)
class SparsePlacement:
    """The options with the chosen place; `reason` is empty if there was no choice."""

    options: RunOptions
    reason: str = ""


def place_sparse(spec: RunSpec, options: RunOptions, devices: Sequence[Device], out: Path) -> SparsePlacement:
    """Choose the place for `auto` by the size of the source, if a run with learned sparse models has GPUs and a CPU slot.

    If the GPUs are faster, the options stay as they are: the pass runs where all models do. UsageError if a GPU was requested
    and there is none.
    """
    gpus = any(device.kind == "cuda" for device in devices)
    threads = min(MOST_THREADS, sum(device.threads for device in devices if device.kind == "cpu" and not device.helper))
    if not any(one.kind == "sparse" for one in spec.passes):
        return SparsePlacement(options)
    if options.sparse_device == "gpu" and not gpus:
        raise UsageError("--sparse-device gpu: no GPU is in the fleet; leave it out, or attach one first")
    if options.sparse_device != "auto" or not gpus or not threads:
        return SparsePlacement(options)
    most = BYTES_PER_TOKEN * int(_even_tokens(threads))
    size = plain_bytes(spec.source, most, exclude=out)
    if size is None:
        return SparsePlacement(options, "a GPU: how much text the source holds is not known beforehand")
    tokens = size / BYTES_PER_TOKEN
    cpu, gpu = tokens / (CPU_TOKENS_PER_SECOND * threads), GPU_START_SECONDS + tokens / GPU_TOKENS_PER_SECOND
    times = f"an estimated {cpu:,.0f} s on {threads} threads, {gpu:,.0f} s on a GPU with its start"
    if size > most:
        return SparsePlacement(options, f"a GPU: {size:,} bytes and more are {times}")
    return SparsePlacement(
        msgspec.structs.replace(options, sparse_device="cpu"), f"the CPU slot: {size:,} bytes are {times}"
    )


def _even_tokens(threads: int) -> float:
    """The number of tokens that take the same time on CPU and GPU."""
    return GPU_START_SECONDS / (1 / (CPU_TOKENS_PER_SECOND * threads) - 1 / GPU_TOKENS_PER_SECOND)
