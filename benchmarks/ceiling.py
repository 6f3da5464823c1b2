"""How fast is everything but the model? `python benchmarks/ceiling.py [--rows 200000 1000000] [--out FILE]`.

The fake encoder, from JSON lines to committed Parquet: chunks per second by the wall clock of the whole command, start of
all processes included, and the resident memory of coordinator and exporter, which must not grow with the corpus.
Each size runs `--repeats` times; the median counts.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
from pathlib import Path

from make_corpus import write_corpus
from processes import Watched, embedfleet, watch


def measure(corpus: Path, out: Path, model: str) -> tuple[Watched, float]:
    """One run: what was watched, and the run's own seconds (from submission to manifest)."""
    shutil.rmtree(out, ignore_errors=True)
    command = embedfleet("run", str(corpus), "--out", str(out), "--dense", model, "--index", "none", "--json")
    watched = watch(command)
    shutil.rmtree(out, ignore_errors=True)
    return watched, float(json.loads(watched.output.splitlines()[-1])["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="fake:384")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {"machine": f"{platform.processor() or platform.machine()}", "model": options.model}
    sizes: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="ceiling-") as folder:
        for rows in options.rows:
            corpus = Path(folder) / f"{rows}.jsonl"
            write_corpus(corpus, rows)
            runs = [measure(corpus, Path(folder) / "run", options.model) for _ in range(options.repeats)]
            wall = statistics.median(watched.seconds for watched, _ in runs)
            size: dict[str, float] = {"rows": rows, "seconds": wall, "chunks_per_second": rows / wall}
            size["chunks_per_second_without_start"] = rows / statistics.median(inner for _, inner in runs)
            for role in ("coordinator", "exporter", "worker"):
                size[f"{role}_plateau_mb"] = statistics.median(watched.plateau(role) for watched, _ in runs) / 1e6
                size[f"{role}_peak_mb"] = max(watched.peak(role) for watched, _ in runs) / 1e6
            sizes.append(size)
            print(f"{rows:>9,} rows  {wall:6.1f} s  {size['chunks_per_second']:>8,.0f} chunks/s", end="")
            print(
                *(f"  {role} {size[f'{role}_plateau_mb']:.0f} MB" for role in ("coordinator", "exporter", "worker")),
                sep="",
            )
            corpus.unlink()
    report["sizes"] = sizes
    for role in ("coordinator", "exporter"):
        growth = sizes[-1][f"{role}_plateau_mb"] / sizes[0][f"{role}_plateau_mb"] - 1
        print(f"{role}: {growth:+.1%} from {options.rows[0]:,} to {options.rows[-1]:,} rows")
        report[f"{role}_growth"] = growth
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
