"""Set a damaged chunk segment aside, so that the next session reads it from the source again."""

from __future__ import annotations

from ...protocol.errors import EmbedfleetError
from ...protocol.run_directory.atomic_files import make_folder, sync_folder
from ...protocol.run_directory.layout import RunLayout


def set_chunks_aside(layout: RunLayout, segment: int, reason: str) -> str:
    """Move the file of a damaged chunk segment away, and return the message about it."""
    path, aside = layout.chunk_segment(segment), layout.damaged_chunk_segment(segment)
    try:
        make_folder(aside.parent)
        path.rename(aside)
        sync_folder(path.parent)
    except FileNotFoundError:
        if not aside.exists():  # else another reader set it aside a moment ago
            return f"{path} is gone; run the same command again, which reads it from the source and keeps the vectors"
    except EmbedfleetError as error:  # of the store that the directory is kept in
        return str(error)
    except OSError as error:
        return f"{path} is damaged ({reason}) and cannot be set aside ({error.strerror}); move it to {aside} yourself"
    return (
        f"{path} was damaged ({reason}) and is set aside as {aside.relative_to(layout.root)}; run the same command again, "
        "which reads it from the source and keeps the vectors"
    )
