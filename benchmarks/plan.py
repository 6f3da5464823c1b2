"""A plan with `--measure` against the run that follows it: predicted and real seconds, rows, tokens, bytes.

    python examples/stdlib_corpus.py /tmp/corpus
    python benchmarks/plan.py /tmp/corpus/corpus.jsonl [--limits 1000 3000 6000] [--measure 15] [--out FILE]

Other flags go to both commands, those of the models for example. For each size, `embedfleet plan --measure` writes its plan,
then the same flags are run into an empty folder, timed from outside as a user would time it. A first run of a few rows warms
the caches. What else works on the machine shows in the load that is printed: read the ratios of a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine
from processes import embedfleet

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limits", type=int, nargs="+", default=[1_000, 3_000, 6_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--measure", type=float, default=15.0)
    parser.add_argument("--index", default="edge")
    parser.add_argument("--devices")
    parser.add_argument("--out", type=Path)
    options, more = parser.parse_known_args()
    flags = [*(more or ["--dense", "all-MiniLM-L6-v2"]), "--index", options.index]
    if options.devices:
        flags += ["--devices", options.devices]
    print(json.dumps(about := machine()), flush=True)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="plan-") as made:
        timed([*flags, "--limit", "64"], options.corpus, Path(made) / "first")
        for limit in options.limits:
            for number in range(options.rounds):
                folder = Path(made) / f"{limit}-{number}"
                found.append(one_size([*flags, "--limit", str(limit)], options.corpus, folder, options.measure))
                show(found[-1])
    if options.out is not None:
        settings = {name: str(value) for name, value in vars(options).items()}
        options.out.write_text(json.dumps({"machine": about, "options": settings, "sizes": found}, indent=2) + "\n")


def one_size(flags: list[str], corpus: Path, folder: Path, measure: float) -> dict[str, Any]:
    """Plan, run, and compare."""
    folder.mkdir()
    written, load = folder / "plan.json", os.getloadavg()[0]
    start = time.monotonic()
    call("plan", str(corpus), "--out", str(folder / "run"), "--measure", str(measure), "--write", str(written), *flags)
    planning = time.monotonic() - start
    real = timed(flags, corpus, folder / "run")
    plan = json.loads(written.read_bytes())
    compared = json.loads(call("plan", str(written), "--compare", str(folder / "run"), "--json"))
    return {
        "rows": plan["rows"]["value"],
        "planning_seconds": planning,
        "predicted": plan["seconds"]["value"],
        "real": real,
        "ratio": real / plan["seconds"]["value"],
        "load": round(load, 2),
        "ratios": {one["name"]: one["ratio"] for one in compared},
    }


def timed(flags: list[str], corpus: Path, out: Path) -> float:
    """Seconds of a run, from outside."""
    start = time.monotonic()
    call("run", str(corpus), "--out", str(out), *flags)
    return time.monotonic() - start


def call(*arguments: str) -> str:
    """What the command prints. RuntimeError if it fails."""
    done = subprocess.run(embedfleet(*arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def show(one: dict[str, Any]) -> None:
    print(
        f"{one['rows']:8,.0f} rows: predicted {one['predicted']:7.1f} s, real {one['real']:7.1f} s, "
        f"real / predicted {one['ratio']:.3f} (planning took {one['planning_seconds']:.1f} s, load {one['load']})"
    )
    print("  " + "  ".join(f"{name} {ratio:.4f}" for name, ratio in one["ratios"].items() if ratio), flush=True)


if __name__ == "__main__":
    main()
