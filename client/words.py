"""Numbers with their nouns, for people."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 query`, `1,024 queries`; without `many`, the plural has an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
