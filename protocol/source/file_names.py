"""What the name of a file says: its format, its compression, the folder whose name its records get."""

from __future__ import annotations

import os

from .source_file import Compression, Format

SUPPORTED = ".jsonl, .ndjson or .json (also .gz, .zst), or .parquet"
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
CHUNKS = "_chunks.json"
"""The end of the name of a file whose folder is a collection."""


def format_of(name: str) -> tuple[Format | None, Compression | None]:
    """Format and compression by the suffixes; a format of None for a file that is not read."""
    stem, suffix = os.path.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix)
    if compression is not None:
        suffix = os.path.splitext(stem)[1]
    if suffix in (".jsonl", ".ndjson"):
        return "jsonl", compression
    if compression is None and suffix == ".parquet":
        return "parquet", None
    if suffix == ".json":
        return "json", compression
    return None, None


def has_collection(name: str) -> bool:
    """Whether the records of a file of this name get the name of its folder."""
    return name.lower().endswith((CHUNKS, *(f"{CHUNKS}{suffix}" for suffix in COMPRESSIONS)))
