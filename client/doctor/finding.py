"""What doctor found, and how it judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]
"""A problem hinders a run. A note makes it slower, or is worth knowing when something else is wrong."""

GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis. `name` does not change between versions; `remedy` is empty if nothing need be done."""

    level: Level
    topic: str
    name: str
    text: str
    remedy: str = ""


def named(names: list[str], most: int = 8) -> str:
    """Names for a message: the first ones, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
