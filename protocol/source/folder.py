"""Walk a folder recursively, following links: its files, and the names that cannot be read."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..run_directory.own_files import holds_run
from ..text.terminal_text import on_one_line

SHOWN_NAMES, SHOWN_KINDS = 2, 8

Kind = tuple[str, str]
"""The reason why names are not read, in the singular and in the plural."""

HIDDEN: Kind = ("hidden", "hidden")
BROKEN_LINK: Kind = ("link that leads nowhere", "links that lead nowhere")
CIRCULAR_LINK: Kind = ("link in a circle", "links in a circle")
READ_ALREADY: Kind = ("link to what is read anyway", "links to what is read anyway")
NOT_A_FILE: Kind = ("pipe, socket or device", "pipes, sockets or devices")
UNREADABLE: Kind = ("folder that may not be read", "folders that may not be read")
OTHER_RUN: Kind = ("run directory", "run directories")
EMPTY: Kind = ("empty file", "empty files")
NO_RECORDS: Kind = (
    ".json without a text field in its first record",
    ".json without a text field in their first record",
)


@dataclass(slots=True)
class LeftOut:
    """Names of a source that are not read: the count and the first names of each kind."""

    counts: dict[Kind, int] = field(default_factory=dict[Kind, int])
    names: dict[Kind, list[str]] = field(default_factory=dict[Kind, "list[str]"])

    def add(self, kind: Kind, name: str) -> None:
        """Count a name."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        shown = self.names.setdefault(kind, [])
        if len(shown) < SHOWN_NAMES:
            shown.append(on_one_line(name))

    def line(self) -> str:
        """One line for all kinds, the most frequent first; empty if there are none."""
        kinds = sorted(self.counts, key=lambda kind: (-self.counts[kind], kind))
        parts = [self._part(kind) for kind in kinds[:SHOWN_KINDS]]
        if rest := kinds[SHOWN_KINDS:]:
            parts.append(f"{sum(self.counts[kind] for kind in rest):,} of other kinds")
        return "; ".join(parts)

    def _part(self, kind: Kind) -> str:
        names, count = self.names[kind], self.counts[kind]
        return f"{count:,} {kind[count > 1]} ({', '.join(names)}{', …' if count > len(names) else ''})"


def suffix_kind(name: str) -> Kind:
    """The kind of a file that is left out for its suffix."""
    path = PurePosixPath(name)
    suffix = on_one_line("".join(path.suffixes[-2:]).lower()) if path.suffix else "without extension"
    return suffix, suffix


@dataclass(frozen=True, slots=True)
class _Folder:
    path: Path
    name: str
    """Below the source; empty for the source itself."""
    linked: bool


def walk(root: Path, exclude: Path | None, left_out: LeftOut) -> Iterator[tuple[Path, str, bool]]:
    """Every file in `root` and below: its path, its name below `root`, and whether a linked folder leads to it.

    Each folder is read once, preferably by its own name and not by a link. `left_out` gains the names that are not read:
    hidden names, broken and circular links, pipes, unreadable folders, directories of other runs. Files under `exclude`, the
    run directory, are ignored. OSError if `root` itself cannot be read.
    """
    barred = None if exclude is None else os.path.realpath(exclude)
    seen: set[tuple[int, int]] = set()
    folders, links = [_Folder(root, "", linked=False)], deque[_Folder]()
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        about = os.stat(folder.path)
        if (about.st_dev, about.st_ino) in seen:
            left_out.add(READ_ALREADY, folder.name)
            continue
        seen.add((about.st_dev, about.st_ino))
        below: list[_Folder] = []
        for entry in _entries(folder, left_out):
            name = f"{folder.name}/{entry.name}" if folder.name else entry.name
            path = Path(entry.path)
            if barred is not None and _is_in(entry, barred):
                continue
            kind = _skip_reason(entry, folder)
            if kind is not None:
                left_out.add(kind, name)
            elif not entry.is_dir():
                yield path, name, folder.linked
            elif entry.is_symlink():
                links.append(_Folder(path, name, linked=True))
            else:
                below.append(_Folder(path, name, folder.linked))
        folders += reversed(below)


def _entries(folder: _Folder, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """The entries, sorted by name. An unreadable folder or another run's directory has none, and is added to `left_out`."""
    try:
        with os.scandir(folder.path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        if not folder.name:
            raise
        left_out.add(UNREADABLE, folder.name)
        return []
    if folder.name and holds_run(folder.path):
        left_out.add(OTHER_RUN, folder.name)
        return []
    return entries


def _skip_reason(entry: os.DirEntry[str], folder: _Folder) -> Kind | None:
    """Why a name is not read; None if it is."""
    if entry.name.startswith("."):
        return HIDDEN
    try:
        if not entry.is_symlink():
            return None if entry.is_file() or entry.is_dir() else NOT_A_FILE
        os.stat(entry.path)
        if entry.is_dir():
            target, here = os.path.realpath(entry.path), os.path.realpath(folder.path)
            return CIRCULAR_LINK if (here + os.sep).startswith(target.rstrip(os.sep) + os.sep) else None
        return None if entry.is_file() else NOT_A_FILE
    except OSError:
        return BROKEN_LINK


def _is_in(entry: os.DirEntry[str], barred: str) -> bool:
    """Whether an entry is the run directory, or a link into it."""
    if not entry.is_symlink() and not entry.is_dir(follow_symlinks=False):
        return False
    real = os.path.realpath(entry.path)
    return real == barred or (entry.is_symlink() and real.startswith(barred + os.sep))
