"""The whole command against whole scripts of others that load, encode and save, in turn, in one run.

    python examples/stdlib_corpus.py /tmp/corpus
    python benchmarks/script.py /tmp/corpus/corpus.jsonl [--limit 1500] [--rounds 3] [--backends torch openvino] [--out FILE]

Ours is `embedfleet run … --index none`, from its start to its end with all files committed. The script reads the same lines,
loads the same weights with sentence-transformers, encodes with normalized vectors, and saves them with `np.save`. Infinity's
takes the same weights with its torch engine; it is measured where `--infinity PYTHON` names an interpreter that has it, since
its requirements are of other versions than ours.

The order is another one in each round, medians count, and vectors are compared. A first run of each does not count: it warms
the page cache and makes the conversions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from made_models import make
from processes import embedfleet

os.environ.setdefault("HF_HUB_OFFLINE", "1")
READ = """
import json, sys
corpus, limit, folder, dtype, batch, out = sys.argv[1:]
texts = [one["text"] for one, _ in zip(map(json.loads, open(corpus)), range(int(limit)))]
import numpy as np
"""
SENTENCE_TRANSFORMERS = f"""{READ}
import torch
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(folder, device="cpu", model_kwargs={{"dtype": getattr(torch, dtype)}})
found = model.encode(texts, batch_size=int(batch), normalize_embeddings=True, show_progress_bar=False)
np.save(out, np.asarray(found, np.float32))
"""
INFINITY = f"""{READ}
import asyncio
from infinity_emb import AsyncEmbeddingEngine, EngineArgs
async def main():
    args = EngineArgs(model_name_or_path=folder, engine="torch", device="cpu", dtype=dtype, batch_size=int(batch))
    engine = AsyncEmbeddingEngine.from_args(args)
    async with engine:
        found, _ = await engine.embed(sentences=texts)
    np.save(out, np.asarray(found, np.float32))
asyncio.run(main())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limit", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--script-dtype", help="of the scripts; as --dtype by default")
    parser.add_argument("--backends", nargs="+", default=["torch", "torch-packed"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[32, 8], help="of the scripts")
    parser.add_argument("--infinity", help="an interpreter that has infinity_emb")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    about = machine()
    print(json.dumps(about), flush=True)
    with tempfile.TemporaryDirectory(prefix="script-") as made:
        folder = Path(made)
        sides = sides_of(options, folder)
        for name, side in sides.items():
            print(f"first {name}: {side():.1f} s", flush=True)
        wanted = np.load(folder / f"sentence-transformers {options.batch_sizes[0]}.npy")
        worst = {name: float(np.einsum("ij,ij->i", vectors_of(folder, name), wanted).min()) for name in sides}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(options.rounds):
            names = list(sides)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                seconds[name].append(sides[name]())
            print(
                f"round {number + 1}: " + "  ".join(f"{name} {took[-1]:.1f} s" for name, took in seconds.items()),
                flush=True,
            )
    report = report_of(seconds, worst, options)
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": about} | report, indent=2) + "\n")


def report_of(seconds: dict[str, list[float]], worst: dict[str, float], options: argparse.Namespace) -> dict[str, Any]:
    """Medians and ratios, printed too: each of ours against the best of the scripts of each kind."""
    medians = {name: statistics.median(took) for name, took in seconds.items()}
    others = {
        kind: min(value for name, value in medians.items() if name.startswith(kind)) for kind in kinds_of(medians)
    }
    ratios = {
        name: {kind: value / medians[name] for kind, value in others.items()}
        for name in medians
        if name.startswith("embedfleet")
    }
    print(
        f"\n{options.limit:,} chunks, {options.model} in {options.dtype}, scripts in {options.script_dtype or options.dtype}"
    )
    for name, value in medians.items():
        shown = "  ".join(f"{ratio:.2f} x {kind}" for kind, ratio in ratios.get(name, {}).items())
        print(f"{name:28}{value:7.1f} s  {options.limit / value:7.1f}/s  worst cosine {worst[name]:.6f}  {shown}")
    return {
        "options": {key: str(one) for key, one in vars(options).items()},
        "seconds": seconds,
        "ratios": ratios,
        "worst": worst,
    }


def kinds_of(names: dict[str, float]) -> list[str]:
    """The scripts that were measured."""
    return [kind for kind in ("sentence-transformers", "infinity") if any(name.startswith(kind) for name in names)]


def sides_of(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[], float]]:
    """What is compared, by name: each runs once, and returns its seconds."""
    model = str(make("dense", folder / "model", options.model))
    sides: dict[str, Callable[[], float]] = {}
    for backend in options.backends:
        name = f"embedfleet {backend}"
        command = embedfleet(
            *("run", str(options.corpus), "--out", str(folder / name), "--restart", "--dense", options.model),
            *("--limit", str(options.limit), "--dtype", options.dtype, "--backend", backend, "--index", "none"),
        )
        sides[name] = timed(command)
    scripts = {
        "sentence-transformers": (sys.executable, SENTENCE_TRANSFORMERS),
        "infinity": (options.infinity, INFINITY),
    }
    for kind, (interpreter, script) in scripts.items():
        for size in options.batch_sizes if interpreter else ():
            name = f"{kind} {size}"
            arguments = (
                str(options.corpus),
                str(options.limit),
                model,
                options.script_dtype or options.dtype,
                str(size),
                str(folder / f"{name}.npy"),
            )
            sides[name] = timed([interpreter, "-c", script, *arguments])
    return sides


def timed(command: list[str]) -> Callable[[], float]:
    """A function that runs the command and returns its seconds. It raises RuntimeError if the command fails."""

    def run() -> float:
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.monotonic() - start
        if done.returncode:
            raise RuntimeError(done.stderr)
        return took

    return run


def vectors_of(folder: Path, name: str) -> np.ndarray:
    """What the last run of a side saved."""
    if not name.startswith("embedfleet"):
        return np.load(folder / f"{name}.npy")
    from embedfleet import open_run

    vectors = open_run(folder / name).vectors()
    assert isinstance(vectors, np.ndarray), "a dense model was asked for"
    return vectors


if __name__ == "__main__":
    main()
