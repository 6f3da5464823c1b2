"""What does each optimization bring? The same texts with it and without it, in turn, in one run.

    python benchmarks/optimizations.py [--texts 300] [--rounds 5] [--only NAME …] [--out FILE]

One worker's encoder on one thread, its model loaded and warmed up; CPU seconds of the process, medians. What is turned off is
turned off here alone: the package has no such switches. Streams and cores are measured by `busy_cores.py`, the word cache by
`tokenizing.py`, and what needs a GPU by `gpu_suite.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from machine import machine
from made_models import make, texts_of_length
from roofline import TOKENS, cpu_seconds

os.environ.setdefault("HF_HUB_OFFLINE", "1")
WORKER = "embedfleet.worker"


@dataclass(frozen=True, slots=True)
class Way:
    """How texts are computed."""

    backend: str = "torch-packed"
    replaced: tuple[str, str, Any] | None = None
    """A module of the worker, a name in it, and what it is in this way."""
    sorts: bool = True
    """Whether texts of like lengths are computed together."""


@dataclass(frozen=True, slots=True)
class Optimization:
    """Two ways to compute the texts of a length by a model of a kind."""

    on: Way
    off: Way
    kind: str = "dense"
    length: str = "mixed"


OPTIMIZATIONS = {
    "no padding": Optimization(Way(), Way("torch")),
    "texts of like lengths together": Optimization(Way("torch"), Way("torch", sorts=False)),
    "layers laid out for oneDNN once": Optimization(
        Way(), Way(replaced=("encoders.text_model", "use_onednn", lambda *_: 0))
    ),
    "OpenVINO": Optimization(Way("openvino"), Way()),
    "tiles of the vocabulary": Optimization(
        Way(), Way(replaced=("backends.vocabulary", "TILE", 1 << 30)), kind="sparse"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(OPTIMIZATIONS), default=list(OPTIMIZATIONS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine()}
    print(json.dumps(report["machine"]))
    with tempfile.TemporaryDirectory(prefix="optimizations-") as made:
        for name in options.only:
            one = OPTIMIZATIONS[name]
            texts = texts_of_length(one.length, options.texts)
            found = report[name] = compare(one, make(one.kind, Path(made) / one.kind), texts, options.rounds)
            on, off = (len(texts) / found[way] for way in ("on", "off"))
            print(f"{name:34}{on:8.1f} texts a CPU second, {off:8.1f} without: {on / off:.2f} x", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


def compare(one: Optimization, folder: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    """CPU seconds of both ways: the medians, and all of them."""
    taken: dict[str, list[float]] = {"on": [], "off": []}
    steps = {name: warm_step(way, one.kind, folder, texts) for name, way in (("on", one.on), ("off", one.off))}
    for number in range(rounds):
        for name in ("on", "off") if number % 2 else ("off", "on"):
            taken[name].append(cpu_seconds(steps[name]))
    return {"texts": len(texts), "taken": taken} | {name: statistics.median(all_) for name, all_ in taken.items()}


def warm_step(way: Way, kind: str, folder: Path, texts: list[str]) -> Callable[[], None]:
    """A call that computes all texts, made once already."""
    from embedfleet.protocol.spec.run_spec import PassSpec
    from embedfleet.worker.converted.choice import load_encoder
    from embedfleet.worker.token_budget import fitting, longest_first

    def replaced() -> Any:
        if way.replaced is None:
            return nullcontext()
        module, name, value = way.replaced
        return patch.object(import_module(f"{WORKER}.{module}"), name, value)

    with replaced():
        encoder: Any = load_encoder(PassSpec(vector="v", kind=kind, model=str(folder), backend=way.backend), "cpu", 1)
        encoder.hydrate()
        prepared = encoder.prepare(texts)
    order = longest_first(prepared.lengths) if way.sorts else np.arange(len(texts), dtype=np.int32)
    usual = max(1, TOKENS * len(texts) // int(prepared.lengths.sum()))

    def step() -> None:
        start = 0
        with replaced():
            while start < len(order):
                count = fitting(prepared.lengths, order, start, TOKENS, pads=encoder.pads) if way.sorts else usual
                encoder.compute(prepared, order[start : start + count])
                start += count

    step()
    return step


if __name__ == "__main__":
    main()
