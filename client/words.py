"""Numbers with their nouns, for people."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 query`, `1,024 queries`; without `many`, the plural has an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def size_of(count: int) -> str:
    """`1.5 MB`, in powers of 1,000."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
