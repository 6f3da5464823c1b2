"""Us against sentence-transformers on the same weights and chunks, in turn, in one run.

    python examples/stdlib_corpus.py /tmp/corpus
    python benchmarks/throughput.py /tmp/corpus/corpus.jsonl [--limit 1500] [--rounds 3] [--out FILE]

Ours is the wall clock of the whole command: start of all processes, loading the model, reading, computing, committing, and
publishing the searchable collection. The reference's is `encode(normalize_embeddings=True)` alone, its model loaded and
warmed up before; the same for its multi-process pool of one process a core, started before. The order alternates, medians
count, and the vectors are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from processes import embedfleet

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def ours(corpus: Path, out: Path, options: argparse.Namespace) -> tuple[float, dict[str, Any], np.ndarray]:
    """One run of the command: seconds, its pass in stats.json, and the vectors in row order."""
    shutil.rmtree(out, ignore_errors=True)
    devices = ["--devices", options.devices] if options.devices else []
    command = embedfleet(
        "run", str(corpus), "--out", str(out), "--dense", options.model, "--dtype", options.dtype,
        "--limit", str(options.limit), "--index", options.index, *devices,
    )  # fmt: skip
    start = time.monotonic()
    # Not watched from outside: looking at the processes ten times a second would take from the cores that they share.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    from embedfleet import open_run

    stats = json.loads((out / "stats.json").read_text())["passes"][0]
    return seconds, stats, open_run(out).vectors()


def texts_of(out: Path) -> list[str]:
    """The texts as the run embedded them, so that both sides encode the same."""
    from embedfleet import open_run

    return open_run(out).chunks.column("text").to_pylist()


def load_reference(options: argparse.Namespace) -> Any:
    import torch
    from embedfleet.protocol.spec.run_spec import PassSpec
    from embedfleet.worker.models.locate import find_model
    from sentence_transformers import SentenceTransformer

    folder = find_model(PassSpec(vector="reference", kind="dense", model=options.model)).folder
    device = "cuda" if options.devices and "cuda" in options.devices else "cpu"
    dtype = {"auto": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    model = SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": dtype[options.dtype]})
    model.encode(["warm up"] * 8)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limit", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--devices")
    parser.add_argument("--index", default="edge")
    parser.add_argument("--batch-size", type=int, default=32, help="of the reference")
    parser.add_argument("--no-pool", action="store_true", help="leave the multi-process pool out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    seconds: dict[str, list[float]] = {"embedfleet": [], "encode": [], "pool": []}
    splits: list[dict[str, Any]] = []
    worst = 1.0
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        out = Path(folder) / "run"
        ours(options.corpus, out, options)  # warms the page cache, and says which texts there are
        texts = texts_of(out)
        model = load_reference(options)
        encode = {"batch_size": options.batch_size, "normalize_embeddings": True, "show_progress_bar": False}
        pool = None if options.no_pool else model.start_multi_process_pool(["cpu"] * (os.cpu_count() or 1))
        for round_number in range(options.rounds):
            took, stats, vectors = ours(options.corpus, out, options)
            seconds["embedfleet"].append(took)
            splits.append(stats)
            start = time.monotonic()
            reference = model.encode(texts, **encode)
            seconds["encode"].append(time.monotonic() - start)
            worst = min(worst, float(np.einsum("ij,ij->i", vectors, reference.astype(np.float32)).min()))
            if pool is not None:
                start = time.monotonic()
                model.encode(texts, pool=pool, **encode)
                seconds["pool"].append(time.monotonic() - start)
            shown = "  ".join(f"{name} {values[-1]:.1f} s" for name, values in seconds.items() if values)
            print(f"round {round_number + 1}: {shown}", flush=True)
        if pool is not None:
            model.stop_multi_process_pool(pool)

    medians = {name: statistics.median(values) for name, values in seconds.items() if values}
    print(
        f"\n{len(texts):,} chunks, {splits[-1]['tokens'] / len(texts):.0f} tokens on average, {options.model} {options.dtype}"
    )
    for name, value in medians.items():
        print(f"{name:>12}  {len(texts) / value:8.1f} chunks/s  {medians['encode'] / value:5.2f} x encode")
    split = splits[-1]["split"]
    print("split of the worker's seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in split.items()))
    print(f"padding {splits[-1]['padding']:.1%}; worst cosine to the reference {worst:.7f}")
    if options.out is not None:
        report = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "options": {name: str(value) for name, value in vars(options).items()},
            "chunks": len(texts),
            "seconds": seconds,
            "chunks_per_second": {name: len(texts) / value for name, value in medians.items()},
            "ratio_to_encode": medians["encode"] / medians["embedfleet"],
            "pass": splits[-1],
            "worst_cosine": worst,
        }
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
