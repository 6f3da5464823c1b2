"""The folders that a run writes to: room, and whether they can be written to."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...protocol.host.hub_cache import hub_cache
from ...protocol.host.own_cache import cache_folder
from ..output.formatting import human_bytes
from .finding import GB, Finding, Level

Use = Literal["output", "spools", "models", "cache", "temporary"]
LEAST: dict[Use, int] = {"output": 2 * GB, "spools": 2 * GB, "models": 3 * GB, "cache": GB, "temporary": GB // 10}
"""Bytes below which too little is free."""
GOOD_OUTPUT = 10 * GB
WHAT: dict[Use, str] = {
    "output": "run directories",
    "spools": "spools of runs in object storage",
    "models": "the hub's cache of models",
    "cache": "embedfleet's cache",
    "temporary": "temporary files",
}
ELSEWHERE: dict[Use, str] = {
    "output": "write elsewhere with --out",
    "spools": "name another folder with --spool",
    "models": "name another folder in HF_HOME",
    "cache": "name another folder in XDG_CACHE_HOME",
    "temporary": "name another folder in TMPDIR",
}


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder that is written to, and the bytes of its disk. `refused` is why nothing can be written; empty: it can."""

    use: Use
    path: str
    free: int
    total: int
    refused: str = ""


def measure_disks(output: Path, use: Use = "output") -> tuple[Disk, ...]:
    """The folder for results, or of another `use`, the caches, and the one for temporary files."""
    own = cache_folder("")
    folders: list[tuple[Use, Path | None]] = [(use, output), ("models", hub_cache()), ("cache", own)]
    found = [_measure(use, path) for use, path in folders if path is not None]
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError as error:  # none of its candidates can be written to
        return (*found, Disk("temporary", "TMPDIR", 0, 0, error.strerror or str(error)))
    return (*found, _measure("temporary", temporary))


def _measure(use: Use, path: Path) -> Disk:
    """A missing folder is measured by the first one above it that is there. Writes a file without a name, for a moment."""
    there = next((one for one in (path, *path.absolute().parents) if os.path.exists(one)), Path("/"))
    try:
        usage = shutil.disk_usage(there)
    except OSError as error:
        return Disk(use, str(path), 0, 0, error.strerror or str(error))
    return Disk(use, str(path), usage.free, usage.total, _refused(there))


def _refused(folder: Path) -> str:
    if not os.path.isdir(folder):
        return f"{folder} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


def disk_findings(disk: Disk) -> list[Finding]:
    """Whether a run can write there."""
    results = disk.use in ("output", "spools")
    level: Level = "problem" if results or disk.use == "temporary" else "note"
    place = f"{disk.path} ({WHAT[disk.use]})"
    if disk.refused:
        remedy = f"see to the right to write there, or {ELSEWHERE[disk.use]}"
        return [Finding(level, "disk", "read-only", f"{place} cannot be written to: {disk.refused}", remedy)]
    text = f"{place}: {human_bytes(disk.free)} of {human_bytes(disk.total)} free"
    remedy = f"make room there, or {ELSEWHERE[disk.use]}"
    if results:
        remedy += "; 100,000 chunks with 1,024 dimensions take about 1 GB"
    if disk.free < LEAST[disk.use]:
        return [Finding(level, "disk", "disk-full", text, remedy)]
    if results and disk.free < GOOD_OUTPUT:
        return [Finding("note", "disk", "disk-low", text, remedy)]
    return [Finding("ok", "disk", "disk", text)]
