"""The tables of a configuration file: flags that belong together."""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """One table. It is named after a flag, whose value is under `key`; `flags` may stand beside it."""

    key: str
    flags: tuple[str, ...] = ()


TABLES = {
    "dense": Table("models", ("truncate-dim", "normalize", "store")),
    "sparse": Table("models", ("max-active-dims", "no-fallback", "sparse-device")),
    "multivector": Table("models", ("pool-factor",)),
    "heads": Table("models"),
    "ensemble": Table("methods", ("weights", "project")),
    "queries": Table("file", ("query-prompt", "qrels", "rerank", "candidates", "top-k", "signals")),
}
"""By the name of the table. A flag may also stand above all tables."""
