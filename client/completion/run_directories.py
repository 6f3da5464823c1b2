"""Run directories for a shell."""

from __future__ import annotations

import os
from os.path import isfile
from pathlib import Path

from ...protocol.run_directory.layout import RunLayout

MOST_ENTRIES = 2_000
"""Entries of a folder that are looked at: a shell must not wait for a folder of a million files."""


def run_directories(incomplete: str) -> list[str]:
    """Run directories whose path begins with `incomplete`; empty without one: shells then complete paths themselves."""
    head, _, tail = incomplete.rpartition("/")
    typed = f"{head}/" if "/" in incomplete else ""
    found: list[str] = []
    try:
        with os.scandir(os.path.expanduser(typed) or ".") as entries:
            for _, entry in zip(range(MOST_ENTRIES), entries, strict=False):
                layout = RunLayout(Path(entry.path))
                if entry.name.startswith(tail) and (isfile(layout.spec) or isfile(layout.shards_record)):
                    found.append(typed + entry.name)
    except OSError:
        return []
    return sorted(found)
