"""Remember which file had each name when this session committed it or first read it."""

from __future__ import annotations

from pathlib import Path


class FileStamps:
    """Stamps of segment files. A replaced file counts as different, even with the same size and content."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, int, int] | None] = {}

    def note(self, path: Path) -> None:
        """Remember the file that is there now, in place of an earlier stamp."""
        self._seen[path] = _stamp(path)

    def note_first(self, path: Path) -> None:
        """Remember the file, unless it has a stamp."""
        if path not in self._seen:
            self.note(path)

    def differ(self, path: Path) -> bool:
        """Whether the file is not the remembered one."""
        known = self._seen.get(path)
        return known is not None and _stamp(path) != known


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Inode, time and size; an inode alone may be reused by the next file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
