"""FileStamps: which file stood under each name when this session committed it or first looked at it."""

from __future__ import annotations

from pathlib import Path


class FileStamps:
    """Of segments. A file of the same size and content in place of another is another file too."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int, int] | None] = {}

    def note(self, path: Path) -> None:
        """Remember the file that stands there now, in place of what was known of it."""
        self._seen[path] = _stamp(path)

    def note_first(self, path: Path) -> None:
        """Remember it where nothing is known yet."""
        if path not in self._seen:
            self.note(path)

    def differ(self, path: Path) -> bool:
        """Whether another file stands there than the one that is remembered."""
        known = self._seen.get(path)
        return known is not None and _stamp(path) != known


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Inode, time and size: an inode alone may be given to the next file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
