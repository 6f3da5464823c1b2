"""The sources of the kept runs, made anew byte for byte wherever they are wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ["tapir", "rail", "otter", "heron", "lynx", "marten", "plover", "newt", "adder", "shrew", "vole", "stoat"]
SMALL, LONG, QUERIES, QRELS = "small.jsonl", "long.jsonl", "queries.jsonl", "qrels.tsv"
SMALL_ROWS, LONG_ROWS = 40, 100


def write_corpora(folder: Path) -> None:
    """The four files, in `folder`."""
    lines = [json.dumps(_small(row)) for row in range(SMALL_ROWS)]
    lines += ['{"id":"c3","text":"another text under a used id"}', '{"id":"bad"}', "not json", json.dumps(_small(0))]
    (folder / SMALL).write_text("".join(f"{line}\n" for line in lines))
    (folder / LONG).write_text("".join(json.dumps(_long(row)) + "\n" for row in range(LONG_ROWS)))
    queries = [{"_id": f"q{at}", "text": f"{WORDS[at]} {WORDS[at + 3]}"} for at in range(4)]
    (folder / QUERIES).write_text("".join(json.dumps(query) + "\n" for query in queries))
    judged = "".join(f"q{at}\tc{3 * at}\t1\n" for at in range(4))
    (folder / QRELS).write_text(f"query-id\tcorpus-id\tscore\n{judged}")


def small_text(row: int) -> str:
    """The text of a row of the small corpus."""
    return " ".join(WORDS[(row * place + place) % len(WORDS)] for place in range(1, 6 + row % 7))


def long_text(row: int) -> str:
    """100,000 characters: forty such rows fill a segment."""
    return f"row {row} " + f"{WORDS[row % len(WORDS)]} {WORDS[(row + 5) % len(WORDS)]} " * 8_000


def _small(row: int) -> dict[str, Any]:
    weights = [{"term": WORDS[row % len(WORDS)], "weight": 1.0 + row % 3}]
    return {
        "id": f"c{row}",
        "text": small_text(row),
        "lang": ("de", "en")[row % 2],
        "n": row,
        "metadata": {"sparse_features": {"term_weights": weights}},
    }


def _long(row: int) -> dict[str, Any]:
    return {"id": f"l{row}", "text": long_text(row)}
