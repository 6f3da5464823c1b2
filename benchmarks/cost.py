"""What a change costs: this checkout against another, in turn.

    git worktree add --detach /tmp/before/embedfleet COMMIT
    python examples/stdlib_corpus.py /tmp/corpus
    python benchmarks/cost.py /tmp/before/embedfleet /tmp/corpus/corpus.jsonl [--rounds 7] [--out FILE]

The other checkout is in a folder named `embedfleet`, since the repository's root is the package. Two commands, by the wall
clock of the whole command: `ceiling.py`'s (the fake encoder) and `throughput.py`'s (a real model, published). The order
alternates; what is printed is the median of each and the median of the pairs' ratios, ours through the other's: 1.03 is 3%
slower.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from make_corpus import write_corpus

HERE = Path(__file__).resolve().parent.parent


def entry_of(checkout: Path) -> str:
    """Code that is the checkout's command, as its own pyproject.toml names it."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    module, function = project["scripts"]["embedfleet"].split(":")
    return f"from {module} import {function}; {function}()"


def seconds_of(checkout: Path, arguments: list[str], out: Path) -> float:
    """One run of a checkout's command, by the clock; RuntimeError with what it wrote if it fails."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", entry_of(checkout), *arguments, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(checkout.parent)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # no user compiles each module anew in each process
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"{checkout}: {done.stderr}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=200_000, help="of the ceiling")
    parser.add_argument("--limit", type=int, default=1_000, help="of the throughput")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    other: Path = options.other.resolve()
    if other.name != "embedfleet":
        parser.error(f"{other}: a checkout has to lie in a folder named embedfleet")
    report: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="cost-") as name:
        folder = Path(name)
        ours = folder / "ours" / "embedfleet"
        ours.parent.mkdir()
        ours.symlink_to(HERE)
        write_corpus(folder / "rows.jsonl", options.rows)
        commands = {
            "ceiling": ["run", str(folder / "rows.jsonl"), "--dense", "fake:384", "--index", "none"],
            "throughput": ["run", str(options.corpus), "--dense", options.model, "--dtype", "float32",
                           "--limit", str(options.limit), "--index", "edge"],
        }  # fmt: skip
        for what, arguments in commands.items():
            taken: dict[Path, list[float]] = {ours: [], other: []}
            for round_number in range(options.rounds):
                for checkout in (ours, other) if round_number % 2 else (other, ours):
                    taken[checkout].append(seconds_of(checkout, arguments, folder / "run"))
            ratios = [mine / theirs for mine, theirs in zip(taken[ours], taken[other], strict=True)]
            report[what] = {
                "rounds": options.rounds,
                "seconds": statistics.median(taken[ours]),
                "seconds_before": statistics.median(taken[other]),
                "ratio": statistics.median(ratios),
                "ratio_best": min(ratios),
                "ratio_worst": max(ratios),
            }
            print(what, *(f"{key} {value:.3f}" for key, value in report[what].items()), sep="  ", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
