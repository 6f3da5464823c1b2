"""Unpacks the run directories of an earlier state, as if they had been written where they now lie."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ..run_copies import copied
from .corpora import write_corpora
from .make import BASE, BROKEN, RUNS

ARCHIVES = Path(__file__).parent
BLOCK = 1 << 16


@dataclass(frozen=True)
class Kept:
    """The folder that holds the sources and the run directories."""

    base: Path
    release: str

    def command(self, run: str, *more: str) -> list[str]:
        """The arguments that made the run, with paths of this folder, and `more`."""
        made = (RUNS[self.release] | BROKEN)[run]
        args = [str(self.base / one) if (self.base / one).is_file() else one for one in made]
        return ["run", *args, "--out", str(self.base / run), *more]

    def stamps(self, run: str) -> dict[str, tuple[int, int, int]]:
        """Inode, size and time of change of each committed segment."""
        root = self.base / run
        found = [*root.glob("chunks/*.parquet"), *root.glob("vectors/*/*.parquet")]
        return {str(path.relative_to(root)): _stamp(path) for path in found}

    def alone(self, run: str, folder: Path) -> Kept:
        """A copy in `folder` of one run and of the sources, which may be altered."""
        for path in self.base.iterdir():
            if path.is_file() or path.name == run:
                copied(path, folder / path.name)
        _stand(folder, str(self.base))
        return Kept(folder, self.release)


def unpack(folder: Path, release: str) -> Kept:
    """The archive of a release in `folder`, and the sources as they stood then."""
    with tarfile.open(ARCHIVES / f"{release}.tar.xz") as packed:
        for member in packed:
            if member.isfile():
                _write_sparsely(packed, member, folder)
            else:
                packed.extract(member, folder, filter="data")
    write_corpora(folder)
    for name, mtime in json.loads((folder / "times.json").read_text()).items():
        os.utime(folder / name, ns=(mtime, mtime))
    _stand(folder, BASE)
    return Kept(folder, release)


def _write_sparsely(packed: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Extract a file with holes for its blocks of zeros: an engine's files are hardly anything else, and hold a gigabyte."""
    path = folder / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    source = packed.extractfile(member)
    assert source is not None, "a file"
    with open(path, "wb") as file:
        while block := source.read(BLOCK):
            if block.count(0) == len(block):
                file.seek(len(block), os.SEEK_CUR)
            else:
                file.write(block)
        file.truncate(member.size)
    path.chmod(member.mode)
    os.utime(path, (member.mtime, member.mtime))


def _stand(folder: Path, before: str) -> None:
    """Make every path that begins with `before` one that begins with `folder`."""
    for path in folder.rglob("*.json"):
        text = path.read_text()
        if before in text:
            path.write_text(text.replace(before, str(folder)))


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
