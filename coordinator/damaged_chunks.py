"""Setting a damaged chunk segment aside, so that the next session reads it from the source again."""

from __future__ import annotations

from pathlib import Path

from ..protocol.layout import damaged_of


def set_chunks_aside(path: Path, reason: str) -> str:
    """Rename the file of a chunk segment; what people are to hear of it."""
    aside = damaged_of(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        if not aside.exists():  # else it was set aside a moment ago, by who heard of it first
            return f"{path} is gone: the same command reads it from the source again, and keeps the vectors"
    except OSError as error:
        return f"{path} is damaged ({reason}) and cannot be set aside ({error.strerror}); rename it to {aside.name} yourself"
    return (
        f"{path} was damaged ({reason}) and is set aside as {aside.name}: the same command reads it from the source again, "
        "and keeps the vectors"
    )
