"""Two examples for each command, shown at the end of its help and in `docs/cli.md`."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """What it is for, and the command, in lines that a terminal of 80 columns shows whole."""

    purpose: str
    command: str


EXAMPLES = {
    "": (
        Example("Embed a corpus with models that need no hub", "embedfleet run corpus.jsonl"),
        Example("Search it", "embedfleet search corpus.embedfleet how to read a file"),
    ),
    "run": (
        Example(
            "Two models and BM25, on two GPUs",
            "embedfleet run docs/ --dense bge-m3 --dense gte-large --sparse bm25 \\\n    --devices cuda:0,cuda:1",
        ),
        Example(
            "Which signals are worth it, by queries with judgements",
            "embedfleet run corpus.jsonl --dense bge-m3 --sparse bm25 \\\n"
            "    --queries queries.jsonl --qrels qrels.tsv --rerank bge-reranker-base",
        ),
    ),
    "fit": (
        Example("Before the shards of a run with BM25", "embedfleet fit docs/ --out docs.embedfleet --sparse bm25"),
        Example(
            "The same for a script",
            "embedfleet fit docs/ --out docs.embedfleet --sparse bm25 \\\n    --text-field body --json",
        ),
    ),
    "search": (
        Example("Words need no quotes", "embedfleet search corpus.embedfleet how to read a file --top-k 3"),
        Example(
            "The dense vectors alone, and only chunks with this metadata",
            'embedfleet search corpus.embedfleet "read a file" --signals dense \\\n    --filter lang=en',
        ),
    ),
    "verify": (
        Example("Check that everything is there, after a copy or a crash", "embedfleet verify corpus.embedfleet"),
        Example("The problems alone, in a script", "embedfleet verify corpus.embedfleet --quiet"),
    ),
    "info": (
        Example("Vectors, models, sizes; and the progress of a run at work", "embedfleet info corpus.embedfleet"),
        Example("The same for a script", "embedfleet info corpus.embedfleet --json"),
    ),
    "merge": (
        Example("Once all shards are done", "embedfleet merge corpus.embedfleet"),
        Example(
            "Of records with one id in two shards, keep the first",
            "embedfleet merge corpus.embedfleet --on-duplicate first",
        ),
    ),
    "export": (
        Example("Every format that applies", "embedfleet export corpus.embedfleet"),
        Example("Arrays for numpy, and the metadata", "embedfleet export corpus.embedfleet --format npy,metadata"),
    ),
    "upload": (
        Example("To a server on this host", "embedfleet upload corpus.embedfleet --url http://localhost:6333"),
        Example(
            "To a named collection, with the API key from a variable",
            "embedfleet upload corpus.embedfleet --url https://qdrant.example:6333 \\\n"
            "    --collection docs --api-key-env QDRANT_API_KEY",
        ),
    ),
    "serve": (
        Example("Offer all GPUs of this host", "embedfleet serve --bind ipc:///run/embedfleet"),
        Example("Offer none; workers attach theirs", "embedfleet serve --bind tcp://127.0.0.1:7000 --no-devices"),
    ),
    "worker": (
        Example("Attach all GPUs of this host", "embedfleet worker --connect ipc:///run/embedfleet"),
        Example(
            "Attach one GPU, and wait ten minutes for the coordinator",
            "embedfleet worker --connect tcp://127.0.0.1:7000 --devices cuda:1 \\\n    --patience 600",
        ),
    ),
    "doctor": (
        Example("What hinders a run on this host", "embedfleet doctor"),
        Example("The same with the locks of a run, for a bug report", "embedfleet doctor corpus.embedfleet --json"),
    ),
    "models": (
        Example("The catalogue, and what is fetched", "embedfleet models"),
        Example("Fetch a model for jobs without a network", "embedfleet models pull bge-m3"),
    ),
    "models pull": (
        Example("Two models of the catalogue", "embedfleet models pull bge-m3 bge-reranker-base"),
        Example("A revision of a model on the hub", "embedfleet models pull BAAI/bge-small-en-v1.5@main"),
    ),
    "query-vectors": (
        Example("The vectors of a query", 'embedfleet query-vectors corpus.embedfleet "read a file"'),
        Example(
            "The request for a server with the run",
            'embedfleet query-vectors corpus.embedfleet "read a file" --json \\\n    | jq .request.body',
        ),
    ),
}
"""By the name of the command; "" is `embedfleet` itself."""


def epilog(name: str) -> str | None:
    """The end of a command's help: its examples, as Markdown that is readable as it is; None for a command without."""
    parts = ["Examples:"]
    for one in EXAMPLES.get(name, ()):
        indented = "\n".join(f"    {line}" for line in one.command.splitlines())
        parts += [f"{one.purpose}:", indented]
    return "\n\n".join(parts) if len(parts) > 1 else None
