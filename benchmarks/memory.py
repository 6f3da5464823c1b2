"""Does memory grow with the corpus? `python benchmarks/memory.py [--rows 200000 800000] [--out FILE]`.

Every path of data is run at two sizes with fake encoders, and the resident memory of each process is watched: the median
over the second half of its life, and the most. A path is flat when the larger size needs no more than a tenth more (or
20 MB, for what is small). Queries count by their pairs: so many rows of them are reranked.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from make_corpus import write_corpus
from processes import Watched, embedfleet, watch

SMALL_CORPUS = 2_000
CANDIDATES = 100
SLACK_SHARE, SLACK_BYTES = 0.10, 20e6


def run(rows: int, folder: Path, *flags: str) -> Watched:
    """`embedfleet run` over so many chunks."""
    corpus = folder / f"{rows}.jsonl"
    if not corpus.exists():
        write_corpus(corpus, rows)
    return watch(embedfleet("run", str(corpus), "--out", str(folder / "run"), "--restart", "--devices", "cpu", *flags))


def rerank(pairs: int, folder: Path) -> Watched:
    """So many pairs of queries and chunks, over a small corpus that is embedded before."""
    corpus, queries = folder / "small.jsonl", folder / "queries.jsonl"
    write_corpus(corpus, SMALL_CORPUS)
    with queries.open("w") as out:
        for number in range(pairs // CANDIDATES):
            out.write(json.dumps({"_id": f"q{number}", "text": f"what is said of {number}"}) + "\n")
    base = ("run", str(corpus), "--out", str(folder / "ranked"), "--devices", "cpu", "--dense", "fake:32")
    watch(embedfleet(*base, "--restart"))
    asked = ("--queries", str(queries), "--rerank", "fake:8", "--candidates", str(CANDIDATES))
    return watch(embedfleet(*base, *asked))


def resume(rows: int, folder: Path) -> Watched:
    """A run that is done, begun again: what stands is read again."""
    flags = ("--dense", "fake:384", "--index", "none")
    run(rows, folder, *flags)
    corpus = folder / f"{rows}.jsonl"
    return watch(embedfleet("run", str(corpus), "--out", str(folder / "run"), "--devices", "cpu", *flags))


def export(rows: int, folder: Path) -> Watched:
    """Every format, of a run with every form of vector."""
    run(rows, folder, "--dense", "fake:64", "--sparse", "fake:500", "--multivector", "fake:16", "--index", "none")
    return watch(embedfleet("export", str(folder / "run")))


def verify(rows: int, folder: Path) -> Watched:
    """A run with every form of vector, recounted."""
    run(rows, folder, "--dense", "fake:64", "--sparse", "fake:500", "--multivector", "fake:16")
    return watch(embedfleet("verify", str(folder / "run")))


PATHS: dict[str, Callable[[int, Path], Watched]] = {
    "multivectors": lambda rows, folder: run(rows, folder, "--multivector", "fake:32", "--index", "none"),
    "multivectors, the collection": lambda rows, folder: run(rows, folder, "--multivector", "fake:32"),
    "heads": lambda rows, folder: run(rows, folder, "--heads", "fake:32"),
    "learned sparse": lambda rows, folder: run(rows, folder, "--sparse", "fake:500", "--index", "none"),
    "int8, two models, an ensemble": lambda rows, folder: run(
        rows,
        folder,
        "--dense",
        "fake:64",
        "--dense",
        "fake:32",
        "--store",
        "int8",
        "--ensemble",
        "concat",
        "--index",
        "none",
    ),
    "the collection": lambda rows, folder: run(rows, folder, "--dense", "fake:32", "--sparse", "bm25"),
    "resume": resume,
    "verify": verify,
    "export": export,
    "queries and reranking": rerank,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[200_000, 800_000])
    parser.add_argument("--paths", nargs="+", default=list(PATHS), choices=list(PATHS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, object] = {"rows": options.rows}
    for name in options.paths:
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            small, large = (PATHS[name](rows, Path(folder)) for rows in options.rows)
        found: dict[str, dict[str, float | bool]] = {}
        for role in sorted(large.resident):
            before, after = small.plateau(role), large.plateau(role)
            flat = after - before <= max(SLACK_SHARE * before, SLACK_BYTES)
            found[role] = {
                "small_mb": before / 1e6,
                "large_mb": after / 1e6,
                "small_peak_mb": small.peak(role) / 1e6,
                "large_peak_mb": large.peak(role) / 1e6,
                "flat": flat,
            }
            print(
                f"{name:<30} {role:<12} {before / 1e6:6.0f} → {after / 1e6:4.0f} MB, "
                f"peak {small.peak(role) / 1e6:4.0f} → {large.peak(role) / 1e6:4.0f} MB  {'flat' if flat else 'GROWS'}"
            )
        report[name] = found
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
