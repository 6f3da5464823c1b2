"""Synthetic chunks for the benchmarks that measure the machinery and not a model: `python benchmarks/make_corpus.py OUT ROWS`.

About 400 characters a chunk (100 tokens), an id and one metadata field, from a fixed vocabulary and a fixed seed.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

PREFIXES = ("re", "un", "pre", "co", "de", "in")
STEMS = ("call", "form", "turn", "view", "port", "mark", "act")
WORDS = [prefix + stem for prefix in PREFIXES for stem in STEMS]


def write_corpus(path: Path, rows: int, seed: int = 7) -> None:
    """Write `rows` chunks as JSON lines."""
    rng = random.Random(seed)
    pieces = [" ".join(rng.choices(WORDS, k=12)) for _ in range(4_096)]
    with path.open("w") as out:
        for row in range(rows):
            text = f"{row} " + " ".join(rng.choices(pieces, k=rng.randint(2, 9)))
            out.write(json.dumps({"id": f"chunk-{row}", "text": text, "section": row % 100}) + "\n")


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]), int(sys.argv[2]))
