"""How much of the processor's matrix rate does a pass use? `python benchmarks/roofline.py [--texts 600] [--out FILE]`.

The rate is that of the model's own matrix products, measured here with torch and with oneDNN's prepacked layers, of which the
faster one counts, on one thread: it is the roof. The rate of all cores at the same time is printed too, since cores may share
their arithmetic units. The pass is one worker's forward
passes over tokenized texts, one thread each, with weights that are loaded already. FLOP of a token: two for each weight of a
linear layer, and in each layer four for each dimension and each token that it attends to. Rates come from CPU seconds of the
computing threads, so neighbours on the same cores count little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from made_models import make, texts_of_length

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TOKENS = 1_024
"""Of a micro-batch, as a worker has it on a CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=["torch", "torch-packed"])
    parser.add_argument("--lengths", nargs="+", default=["short", "mixed", "long"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine()}
    print(json.dumps(report["machine"]))
    folder = make("dense", Path())
    roof = report["matrix rate"] = matrix_rate(folder, options.rounds)
    print("matrix rate of one thread: " + ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in roof.items()))
    best = max(rate for name, rate in roof.items() if "all cores" not in name)
    for length in options.lengths:
        texts = texts_of_length(length, options.texts)
        for backend in options.backends:
            found = report[f"{backend}, {length}"] = measure(folder, backend, texts, options.rounds)
            found["share"] = found["flops"] / best
            print(
                f"{length:6}{backend:14}{found['texts_per_cpu_second']:8.1f} texts a CPU second  "
                f"{found['flops'] / 1e9:6.1f} GFLOP/s  {found['share']:.0%} of the roof",
                flush=True,
            )
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


def matrix_rate(folder: Path, rounds: int) -> dict[str, float]:
    """FLOP/s over the linear layers of the model, by what computes them: of one thread by its CPU time, and of a thread on
    each core at the same time by the clock."""
    import torch
    from embedfleet.worker.backends.cpu_linear import use_onednn
    from transformers import AutoModel

    torch.set_num_threads(1)
    found: dict[str, float] = {}
    for name in ("torch", "oneDNN"):
        model = AutoModel.from_pretrained(str(folder)).eval()
        if name == "oneDNN":
            use_onednn(torch, model)
        layers = [layer for layer in model.encoder.modules() if "Linear" in type(layer).__name__]
        inputs = [torch.randn(TOKENS, layer.in_features) for layer in layers]
        flops = 2 * TOKENS * sum(layer.in_features * layer.out_features for layer in layers)

        def step(layers: list[Any] = layers, inputs: list[Any] = inputs) -> None:
            with torch.inference_mode():
                for layer, given in zip(layers, inputs, strict=True):
                    layer(given)

        step()
        found[name] = flops / statistics.median(cpu_seconds(step) for _ in range(5 * rounds))
        found[f"{name}, all cores"] = flops * together(step, len(os.sched_getaffinity(0)), rounds)
    return found


def together(step: Callable[[], None], threads: int, rounds: int) -> float:
    """Steps per second of so many threads that run at the same time."""

    def some() -> None:
        for _ in range(10 * rounds):
            step()

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for one in [pool.submit(some) for _ in range(threads)]:
            one.result()
        return threads * 10 * rounds / (time.perf_counter() - start)


def measure(folder: Path, backend: str, texts: list[str], rounds: int) -> dict[str, float]:
    """One encoder's forward passes over the texts on one thread."""
    from embedfleet.protocol.spec.run_spec import PassSpec
    from embedfleet.worker.converted.choice import load_encoder
    from embedfleet.worker.token_budget import fitting, longest_first

    encoder: Any = load_encoder(PassSpec(vector="v", kind="dense", model=str(folder), backend=backend), "cpu", 1)
    encoder.hydrate()
    prepared = encoder.prepare(texts)
    order = longest_first(prepared.lengths)

    def step() -> None:
        start = 0
        while start < len(order):
            count = fitting(prepared.lengths, order, start, TOKENS, pads=encoder.pads)
            encoder.compute(prepared, order[start : start + count])
            start += count

    step()
    took = statistics.median(cpu_seconds(step) for _ in range(rounds))
    return {
        "texts_per_cpu_second": len(texts) / took,
        "tokens_per_cpu_second": float(prepared.lengths.sum()) / took,
        "flops": flops_of(folder, prepared.lengths) / took,
    }


def flops_of(folder: Path, lengths: np.ndarray) -> float:
    """FLOP of the transformer over texts of these lengths, without padding."""
    config = json.loads((folder / "config.json").read_text())
    width, wide, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    tokens = lengths.astype(np.float64)
    linear = 2 * layers * (4 * width * width + 2 * width * wide) * tokens.sum()
    return float(linear + 4 * layers * width * (tokens * tokens).sum())


def cpu_seconds(step: Any) -> float:
    """CPU seconds of the whole process while `step` runs."""
    start = time.process_time()
    step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
