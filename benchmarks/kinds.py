"""The pass of each kind of model against sentence-transformers on the same weights and texts, in turn, in one run.

    python benchmarks/kinds.py [--kinds dense sparse multivector rerank] [--texts short mixed long] [--rounds 3] [--out FILE]

Texts are cut from the standard library's docstrings: `short` to 32 tokens, `mixed` as they are, `long` to as many as the model
takes, of which there are fewer. The models have the bundled all-MiniLM-L6-v2 as their backbone, each with a head of its kind:
its own for dense, a vocabulary layer tied to its word embeddings (SPLADE), a projection to 128 dimensions (ColBERT), a
classifier of pairs. Speed does not depend on the values of a head.

Ours is the wall clock of the pass in stats.json, from the first worker at work to the last result. The reference's is
`encode_document` or `predict` alone, its model loaded and warmed up before, with its default batch of 32 and with the best of
BATCHES, which is looked for in the first round. The order alternates, medians count, and the results are compared.
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
from pathlib import Path
from typing import Any

from embedfleet.protocol.text.query_pairs import split_pair
from machine import machine
from made_models import KINDS, make, texts_of_length
from processes import embedfleet

os.environ.setdefault("HF_HUB_OFFLINE", "1")
BATCHES = (8, 64, 128)
"""Of the reference, beside its default."""
COUNTS = {"short": 3_000, "mixed": 1_500, "long": 400}
PER_QUERY = 20
"""Pairs of the cross-encoder: the candidates of each of as many queries as give one pair a text."""
REFERENCE = """
import json, sys, time
kind, folder, texts, dtype, *batches = sys.argv[1:]
import torch, sentence_transformers as st
texts = json.load(open(texts))
families = {"dense": st.SentenceTransformer, "sparse": st.SparseEncoder, "multivector": st.MultiVectorEncoder}
model = families.get(kind, st.CrossEncoder)(folder, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
named = {"normalize_embeddings": True} if kind == "dense" else {}
compute = model.predict if kind == "rerank" else model.encode_document
compute(texts[:8], batch_size=8, show_progress_bar=False, **named)
took = {}
for size in map(int, batches):
    start = time.monotonic()
    compute(texts, batch_size=size, show_progress_bar=False, **named)
    took[size] = time.monotonic() - start
print(json.dumps(took))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--texts", nargs="+", choices=tuple(COUNTS), default=["mixed"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the texts: 0.1 for a first look")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--backends", nargs="+", default=["auto"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "options": {key: str(one) for key, one in vars(options).items()}}
    print(json.dumps(report["machine"]))
    with tempfile.TemporaryDirectory(prefix="kinds-") as made:
        folder = Path(made)
        for length in options.texts:
            corpus = Corpus(folder / length, length, max(8, int(COUNTS[length] * options.share)))
            for kind in options.kinds:
                report[f"{kind}, {length}"] = compare(kind, make(kind, folder / kind), corpus, options)
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


class Corpus:
    """Texts of one length in a folder: for us as JSON lines, for the reference as a list."""

    def __init__(self, folder: Path, length: str, count: int) -> None:
        folder.mkdir()
        self.texts = texts_of_length(length, count)
        self.lines, self.list, self.queries = folder / "corpus.jsonl", folder / "texts.json", folder / "queries.jsonl"
        self.lines.write_text(
            "".join(json.dumps({"id": str(row), "text": text}) + "\n" for row, text in enumerate(self.texts))
        )
        self.list.write_text(json.dumps(self.texts))
        asked = enumerate(self.texts[::PER_QUERY])
        self.queries.write_text("".join(json.dumps({"id": str(row), "text": text[:200]}) + "\n" for row, text in asked))
        self.run = folder / "run"

    def pairs(self) -> Path:
        """A list of the pairs that our last run reranked, for the reference."""
        lines = [json.loads(line) for line in (self.run / "rerank" / "pairs.jsonl").read_text().splitlines()]
        self.list.write_text(json.dumps([split_pair(one["text"]) for one in lines]))
        return self.list


def compare(kind: str, model: Path, corpus: Corpus, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of both sides in each round, and our rate over theirs."""
    ours: dict[str, list[float]] = {backend: [] for backend in options.backends}
    theirs: dict[int, list[float]] = {}
    for backend in options.backends:  # does not count: conversions are made, and the page cache is warmed
        our_pass(kind, model, corpus, options.dtype, backend)
    given = corpus.pairs() if kind == "rerank" else corpus.list
    count = len(json.loads(given.read_text()))
    for number in range(options.rounds):
        sizes = (32, *BATCHES) if number == 0 else (32, min(theirs, key=lambda size: min(theirs[size])))
        for turn in (0, 1) if number % 2 == 0 else (1, 0):
            if turn:
                for size, took in reference(kind, model, given, options.dtype, sorted(set(sizes))).items():
                    theirs.setdefault(size, []).append(took)
            else:
                for backend, seconds in ours.items():
                    seconds.append(our_pass(kind, model, corpus, options.dtype, backend))
    best = min(theirs, key=lambda size: statistics.median(theirs[size]))
    default, fastest = statistics.median(theirs[32]), statistics.median(theirs[best])
    found: dict[str, Any] = {"texts": count, "ours": ours, "theirs": theirs, "best batch": best}
    print(f"\n{kind}, {count:,} texts, {options.dtype}: reference {count / default:.1f}/s with batches of 32, ", end="")
    print(f"{count / fastest:.1f}/s with {best}")
    for backend, seconds in ours.items():
        median = statistics.median(seconds)
        ratios = found[f"ratio, {backend}"] = {"default": default / median, "best": fastest / median}
        rates = "  ".join(f"{value:.2f} x {name}" for name, value in ratios.items())
        print(f"  {backend:13}{count / median:8.1f}/s  {rates}", flush=True)
    return found


def our_pass(kind: str, model: Path, corpus: Corpus, dtype: str, backend: str) -> float:
    """Seconds of the pass of one run."""
    flags = [f"--{kind}", str(model)]
    if kind == "rerank":
        flags = [
            *("--sparse", "bm25", "--queries", str(corpus.queries), "--candidates", str(len(corpus.texts))),
            *("--rerank", str(model)),
        ]
    command = embedfleet(
        "run", str(corpus.lines), "--out", str(corpus.run), "--restart", "--dtype", dtype, "--backend", backend,
        "--index", "none" if kind != "rerank" else "edge", *flags,
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, input="")
    if done.returncode:
        raise RuntimeError(done.stderr)
    folder = corpus.run / "rerank" / "run" if kind == "rerank" else corpus.run
    (one,) = json.loads((folder / "stats.json").read_text())["passes"]
    return one["seconds"]


def reference(kind: str, model: Path, texts: Path, dtype: str, sizes: list[int]) -> dict[int, float]:
    """Seconds of the reference by its size of batches, all in one process of its own."""
    command = [sys.executable, "-c", REFERENCE, kind, str(model), str(texts), dtype, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    time.sleep(0.5)
    return {int(size): took for size, took in json.loads(done.stdout).items()}


if __name__ == "__main__":
    main()
