"""Format numbers for people: counts with a noun, percentages, sizes."""

from __future__ import annotations


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """`1 query`, `1,024 queries`. Without `plural`, an s is appended to `singular`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def percent(share: float, digits: int = 1) -> str:
    """`12.5%`. A share above 0 never shows as 0.0%, and a share below 1 never as 100.0%."""
    text = f"{share:.{digits}%}"
    if 0 < share < 0.5 and text == f"{0:.{digits}%}":
        return f"<{10**-digits:.{digits}f}%"
    if 0.5 < share < 1 and text == f"{1:.{digits}%}":
        return f">{100 - 10**-digits:.{digits}f}%"
    return text


def human_bytes(count: int) -> str:
    """A number of bytes as `1.5 MB`, in powers of 1,000."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < (1000 if unit == "B" else 999.95):
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
