"""A disk that forgets: what a run writes to a folder is recorded, and after a cut anything not synced may be gone.

The commit path runs as it is, on a real folder; the system calls that it makes are recorded, with the content of each file
when it was synced. `Disk.after_cut` then makes one of the folders that a power cut could have left:

- an entry of a folder (a link, a rename, a removal, a folder in it) is there for certain once the folder was synced after
  it; before, each may be there or not, whatever became of the others;
- a file has for certain what it had when it was last synced; what was written since may be there, in part, as zeros, or not.

That is less than journalling file systems promise, and about what POSIX does (Pillai et al., OSDI 2014, "All File Systems
Are Not Created Equal").
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 512


@dataclass(frozen=True)
class Entry:
    """A change of a folder: `name` now is `inode`, or is gone."""

    folder: str
    name: str
    inode: int | None
    is_folder: bool = False


@dataclass
class Moment:
    """The state after one recorded call: what is certain, what is under way, and what had been acknowledged."""

    entries: dict[str, dict[str, tuple[int, bool]]]
    pending: list[tuple[Entry, ...]]
    """Changes not synced yet, in order; a rename is two entries that come or stay away together."""
    synced: dict[int, bytes]
    written: dict[int, bytes]
    marks: tuple[Any, ...]


@dataclass
class Disk:
    """Records what happens below `root`. `drops` names the syncs that this disk only pretends to make."""

    root: Path
    drops: frozenset[str] = frozenset()
    moments: list[Moment] = field(default_factory=list[Moment])
    _certain: dict[str, dict[str, tuple[int, bool]]] = field(default_factory=lambda: {"": {}})
    _pending: list[tuple[Entry, ...]] = field(default_factory=list[tuple[Entry, ...]])
    _seen: dict[str, tuple[int, bool]] = field(default_factory=dict[str, tuple[int, bool]])
    _synced: dict[int, bytes] = field(default_factory=dict[int, bytes])
    _marks: list[Any] = field(default_factory=list[Any])
    _lock: Any = field(default_factory=threading.RLock)

    def settle(self) -> None:
        """What is there now has long been there: all of it is certain. Before `record`."""
        self._look()
        for change in self._pending:
            apply(self._certain, change)
        self._pending.clear()
        self._synced = {
            inode: (self.root / at).read_bytes() for at, (inode, folder) in self._seen.items() if not folder
        }

    def mark(self, what: Any) -> None:
        """Something is acknowledged: from here on it has to survive."""
        with self._lock:
            self._marks.append(what)
            self._note()

    def record(self, patch: Callable[[Any, str, Any], None]) -> None:
        """Stand between the code and the calls that change folders and sync; `patch(module, name, value)` undoes itself."""
        for name in ("fsync", "rename", "unlink", "mkdir", "rmdir"):
            patch(os, name, self._around(name, getattr(os, name)))

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **named: Any) -> Any:
            with self._lock:
                self._note()
                if name == "fsync":
                    self._sync(Path(os.readlink(f"/proc/self/fd/{args[0]}")))
                    result = call(*args, **named)
                else:
                    result = call(*args, **named)
                    self._look()
                self._note()
            return result

        return recorded

    def _sync(self, path: Path) -> None:
        if not path.is_relative_to(self.root):
            return
        at = "" if path == self.root else str(path.relative_to(self.root))
        if path.is_dir():
            if "folder" in self.drops:
                return
            settled = [change for change in self._pending if change[0].folder == at]
            self._pending = [change for change in self._pending if change[0].folder != at]
            for change in settled:
                apply(self._certain, change)
        elif "file" not in self.drops:
            self._synced[path.stat().st_ino] = path.read_bytes()

    def _look(self) -> None:
        """Find out what changed in the folders since the last look, and note it as under way."""
        now: dict[str, tuple[int, bool]] = {}
        for folder, folders, files in os.walk(self.root):
            for name, is_folder in [*((one, True) for one in folders), *((one, False) for one in files)]:
                path = Path(folder, name)
                now[str(path.relative_to(self.root))] = (path.stat().st_ino, is_folder)
        gone = {at: self._seen[at] for at in self._seen if now.get(at) != self._seen[at]}
        come = {at: one for at, one in now.items() if self._seen.get(at) != one}
        for at, one in come.items():
            old = next((other for other, was in gone.items() if was == one and other not in now), None)
            there = Entry(*_split(at), one[0], one[1])
            if old is not None:
                del gone[old]
                self._pending.append((there, Entry(*_split(old), None)))
            else:
                self._pending.append((there,))
        self._pending += [(Entry(*_split(at), None),) for at in gone if at not in come]
        self._seen = now

    def _note(self) -> None:
        self._look()
        written = {
            inode: (self.root / at).read_bytes() for at, (inode, is_folder) in self._seen.items() if not is_folder
        }
        certain = {folder: dict(names) for folder, names in self._certain.items()}
        self.moments.append(Moment(certain, list(self._pending), dict(self._synced), written, tuple(self._marks)))


def after_cut(moment: Moment, rng: random.Random, into: Path) -> None:
    """Make in `into` one of the states that a power cut at this moment could have left."""
    entries = {folder: dict(names) for folder, names in moment.entries.items()}
    eager = rng.random()
    for change in moment.pending:
        if rng.random() < eager:
            apply(entries, change)
    _make(entries, "", into, moment, rng)


def apply(entries: dict[str, dict[str, tuple[int, bool]]], change: tuple[Entry, ...]) -> None:
    """Let a change of folders come true."""
    for one in change:
        names = entries.setdefault(one.folder, {})
        if one.inode is None:
            names.pop(one.name, None)
        else:
            names[one.name] = (one.inode, one.is_folder)


def _make(entries: Any, folder: str, into: Path, moment: Moment, rng: random.Random) -> None:
    into.mkdir(exist_ok=True)
    for name, (inode, is_folder) in entries.get(folder, {}).items():
        at = f"{folder}/{name}" if folder else name
        if is_folder:
            _make(entries, at, into / name, moment, rng)
        else:
            (into / name).write_bytes(_content(moment, inode, rng))


def _content(moment: Moment, inode: int, rng: random.Random) -> bytes:
    safe, latest = moment.synced.get(inode), moment.written.get(inode)
    if latest is None or latest == safe:
        return safe or b""
    match rng.randrange(5):
        case 0:
            return safe or b""
        case 1:
            return latest
        case 2:
            return latest[: rng.randrange(len(latest) + 1)]
        case 3:
            return bytes(len(latest))
        case _:
            blocks = [latest[at : at + BLOCK] for at in range(0, len(latest), BLOCK)]
            return b"".join(block if rng.random() < 0.5 else bytes(len(block)) for block in blocks)


def _split(at: str) -> tuple[str, str]:
    folder, _, name = at.rpartition("/")
    return folder, name
