"""Watching a run's processes from outside: resident memory of each role, sampled while it runs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import psutil

ROLES = {
    "embedfleet.coordinator": "coordinator",
    "embedfleet.exporter": "exporter",
    "embedfleet.worker": "worker",
    "embedfleet.exporter.commands.export": "export",
    "embedfleet.exporter.commands.candidates": "candidates",
    "embedfleet.exporter.commands.rank": "ranking",
    "embedfleet.exporter.commands.merge": "merge",
}
CLIENT = "client"
"""The command itself."""
SAMPLE_SECONDS = 0.1


@dataclass(slots=True)
class Watched:
    """A finished command: wall seconds, its standard output, and by role the bytes in memory that are its own."""

    seconds: float
    output: str
    resident: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def peak(self, role: str) -> int:
        return max(self.resident.get(role, [0]))

    def plateau(self, role: str) -> float:
        """Median over the second half of the run: what the role needs once it is under way."""
        samples = self.resident.get(role, [0])
        return statistics.median(samples[len(samples) // 2 :])


def watch(command: list[str]) -> Watched:
    """Run a command to its end; RuntimeError with what it wrote if it fails."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = Watched(0.0, "")
    me = psutil.Process(child.pid)
    while child.poll() is None:
        for one in _family(me):
            try:
                line = one.cmdline()
                role = next((ROLES[part] for part in line if part in ROLES), CLIENT if one == me else None)
                if role is not None:
                    memory = one.memory_info()
                    # Pages of mapped files come and go as the system likes: the collection's vectors are such.
                    found.resident.setdefault(role, []).append(memory.rss - memory.shared)
            except psutil.Error:
                continue
        time.sleep(SAMPLE_SECONDS)
    found.seconds = time.monotonic() - start
    found.output, errors = child.communicate()
    if child.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{errors}")
    return found


def embedfleet(*arguments: str) -> list[str]:
    """The command line of this installation."""
    return [sys.executable, "-c", "from embedfleet.__main__ import main; main()", *arguments]


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
