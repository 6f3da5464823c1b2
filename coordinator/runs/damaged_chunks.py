"""Set a damaged chunk segment aside, so that the next session reads it from the source again."""

from __future__ import annotations

from pathlib import Path

from ...protocol.run_directory.layout import damaged_of


def set_chunks_aside(path: Path, reason: str) -> str:
    """Rename the file of a damaged chunk segment, and return the message about it."""
    aside = damaged_of(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        if not aside.exists():  # else another reader set it aside a moment ago
            return f"{path} is gone; run the same command again, which reads it from the source and keeps the vectors"
    except OSError as error:
        return f"{path} is damaged ({reason}) and cannot be set aside ({error.strerror}); rename it to {aside.name} yourself"
    return (
        f"{path} was damaged ({reason}) and is set aside as {aside.name}; run the same command again, which reads it from "
        "the source and keeps the vectors"
    )
