"""A source in shards, one after another and merged, against one run of all of it, in turn.

    python examples/stdlib_corpus.py /tmp/corpus
    python benchmarks/shards.py /tmp/corpus/corpus.jsonl [--shards 16] [--rounds 3] [--limit 6000] [--times 1]
        [--out FILE] [-- FLAGS]

Both are whole commands, from their start to all files committed, with the same flags; by default all-MiniLM-L6-v2 and no
collection. A first run of a few chunks warms the caches. `--limit` takes the first chunks of the corpus, since shards have no
such flag; `--times` repeats them, with new ids. The models stay from shard to shard, but each shard has an end and a beginning,
so the ratio falls as shards grow: the seconds of each more shard are printed too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from machine import machine
from processes import embedfleet

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=6_000)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("flags", nargs="*", default=["--dense", "all-MiniLM-L6-v2"])
    options = parser.parse_args()
    about = machine()
    print(json.dumps(about), flush=True)
    with tempfile.TemporaryDirectory(prefix="shards-") as made:
        folder = Path(made)
        source, first = folder / "corpus.jsonl", folder / "first.jsonl"
        write_corpus(source, options.corpus, options.limit, options.times)
        write_corpus(first, options.corpus, 64, 1)
        timed(first, folder / "first", options.flags)
        sides = {"one run": (), f"{options.shards} shards": ("--shards", str(options.shards))}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(1, options.rounds + 1):
            order = list(sides) if number % 2 else list(sides)[::-1]
            for name in order:
                seconds[name].append(timed(source, folder / f"{name} {number}", [*options.flags, *sides[name]]))
            print(f"round {number}: " + "  ".join(f"{name} {seconds[name][-1]:.1f} s" for name in sides), flush=True)
    whole, parts = (statistics.median(one) for one in seconds.values())
    start = (parts - whole) / (options.shards - 1)
    print(f"{options.shards} shards take {parts / whole:.2f} x the time of one run; {start:.1f} s more for each shard")
    if options.out is not None:
        found = {"machine": about, "seconds": seconds, "ratio": parts / whole, "start": start}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def write_corpus(path: Path, corpus: Path, limit: int, times: int) -> None:
    """The first lines of a corpus of JSON lines, so many times, each with an id of its own."""
    with corpus.open("rb") as lines:
        records = [json.loads(line) for line in itertools.islice(lines, limit)]
    with path.open("w") as file:
        for turn in range(times):
            for number, record in enumerate(records):
                file.write(json.dumps(record | {"_id": f"{turn}-{number}"}) + "\n")


def timed(source: Path, out: Path, flags: list[str]) -> float:
    """The seconds of one command, which must end well."""
    command = embedfleet("run", str(source), "--out", str(out), "--index", "none", *flags)
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
