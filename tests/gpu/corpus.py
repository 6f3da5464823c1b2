"""What the tests on a GPU feed to a run, and what it wrote of itself."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

WORDS = ("lease", "device", "batch", "segment", "commit", "vector", "query", "corpus", "worker", "token", "memory")


def write_corpus(path: Path, rows: int) -> list[str]:
    """JSON lines of 3 to 400 words a text; the texts."""
    rng = random.Random(5)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 400))) + f" {row}" for row in range(rows)]
    path.write_text("".join(json.dumps({"id": f"c{row}", "text": text}) + "\n" for row, text in enumerate(texts)))
    return texts


def events(out: Path, name: str) -> list[dict[str, Any]]:
    """The events of that name so far."""
    lines = (out / "events.jsonl").read_bytes().split(b"\n")[:-1]  # the last may be half written
    return [one for one in map(json.loads, lines) if one["event"] == name]
