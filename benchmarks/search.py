"""How soon does a search answer? `python benchmarks/search.py RUN [--rounds 11] [--queries 50] [--out FILE]`.

    python examples/stdlib_corpus.py corpus
    embedfleet run corpus/corpus.jsonl --out run --dense all-MiniLM-L6-v2 --sparse bm25 --limit 1500
    python benchmarks/search.py run

- cold: the wall clock of `embedfleet search RUN QUERY`, from its start to its end, against a script of sentence-transformers
  that loads the run's first real model and encodes the query, without a search; in turn
- warm: what each query at the prompt takes until it is printed, as `--timings` has it, against `encode_query` of the loaded
  model alone

Medians and the worst, in milliseconds. Run it where nothing else works: everything here is the start of processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import machine
from processes import embedfleet

FAMILIES = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "multivector": "MultiVectorEncoder"}
REFERENCE = """
import json, sys, time
import sentence_transformers
family, folder, *queries = sys.argv[1:]
model = getattr(sentence_transformers, family)(folder, device="cpu", local_files_only=True)
took = []
for query in queries:
    began = time.perf_counter()
    model.encode_query([query])
    took.append(1000 * (time.perf_counter() - began))
print(json.dumps(took))
"""
WORDS = (
    "parse",
    "command",
    "line",
    "sequence",
    "compare",
    "server",
    "file",
    "lock",
    "thread",
    "date",
    "format",
    "path",
)


def queries_of(count: int) -> list[str]:
    """Queries of three words, none twice."""
    return [" ".join(WORDS[(row * step + row // 12) % 12] for step in (1, 5, 7)) + f" {row}" for row in range(count)]


def milliseconds(command: Sequence[str], stdin: str = "") -> tuple[float, str]:
    """The wall clock of a command, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)
    took = 1000 * (time.perf_counter() - began)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return took, done.stdout


def reference_of(run: Path) -> tuple[str, str]:
    """The class of sentence-transformers and the folder of the run's first model that has one."""
    from embedfleet.protocol.run_directory.layout import RunLayout
    from embedfleet.protocol.run_directory.run_json import read_spec
    from embedfleet.worker.models.locate import find_model

    spec = next(one for one in read_spec(RunLayout(run)).passes if one.kind in FAMILIES and ":" not in one.model)
    return FAMILIES[spec.kind], str(find_model(spec).folder)


def summary(found: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(found), 1), "worst": round(max(found), 1)}


def cold(run: Path, reference: tuple[str, str], rounds: int) -> dict[str, Any]:
    """Commands in turn; the first of each is not counted."""
    script = [sys.executable, "-c", REFERENCE, *reference]
    ours, theirs = list[float](), list[float]()
    for number, query in enumerate(queries_of(rounds + 1)):
        pair = [(ours, embedfleet("search", str(run), query, "--json")), (theirs, [*script, query])]
        for taken, command in pair if number % 2 else pair[::-1]:
            took, _ = milliseconds(command)
            if number:
                taken.append(took)
    return {"ours": summary(ours), "sentence-transformers": summary(theirs)}


def warm(run: Path, reference: tuple[str, str], count: int) -> dict[str, Any]:
    """Queries at one prompt, after a first one; each stage's median beside the whole."""
    queries = queries_of(count + 1)
    lines = "".join(f"{query}\n" for query in queries)
    _, printed = milliseconds(embedfleet("search", str(run), "--json", "--timings"), lines)
    timings = [json.loads(line)["timings"] for line in printed.splitlines()][1:]
    _, took = milliseconds([sys.executable, "-c", REFERENCE, *reference, *queries])
    return {
        "ours": summary([one["total"] for one in timings]),
        "stages": {stage: summary([one.get(stage, 0.0) for one in timings])["median"] for stage in timings[-1]},
        "sentence-transformers, encoding alone": summary(json.loads(took)[1:]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    reference = reference_of(options.run)
    report = machine() | {
        "cold_ms": cold(options.run, reference, options.rounds),
        "warm_ms": warm(options.run, reference, options.queries),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
