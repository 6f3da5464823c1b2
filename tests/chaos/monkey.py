"""The one who kills: picks processes of a command by role and ends or stops them, at random and replayably."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from embedfleet.tests.forked_children import Forked

Command = Forked | subprocess.Popen[bytes]

ROLES = {
    "embedfleet.worker": "worker",
    "embedfleet.exporter": "exporter",
    "embedfleet.coordinator": "coordinator",
    "embedfleet.worker.converted.convert": "converter",
}
LOOK_SECONDS = 0.05
"""Between two looks at the processes of a command: each look takes some milliseconds of a processor."""
STOPPED_SECONDS = 1.0
"""A stop is shorter than this, most of the time."""
LONG_STOP, LONG_SECONDS = 0.2, 7.0
"""How often a stop is a long one, and how long that is: more than the runs' deadline for a batch."""


@dataclass
class Monkey:
    """`blows` counts by what was done; `seen` are all processes that were ever below a command."""

    rng: random.Random
    pause: float = 1.0
    """Seconds between two blows, on average."""
    blows: Counter[str] = field(default_factory=Counter[str])
    seen: dict[int, psutil.Process] = field(default_factory=dict[int, psutil.Process])

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.blows.items() if name.startswith("kill "))

    out: Path | None = None
    """The run directory of the command, of which a file may go."""
    removed: set[str] = field(default_factory=set[str])
    """Committed files that are gone, below the run directory."""

    def play(self, command: Command, most: int) -> None:
        """Strike until the command ends, or until it has struck so often; then only wait."""
        struck = 0
        while command.poll() is None:
            self.look(command)
            if struck >= most:
                time.sleep(LOOK_SECONDS)
                continue
            until = time.monotonic() + self.rng.expovariate(1 / self.pause)
            while time.monotonic() < until and command.poll() is None:
                self.look(command)
                time.sleep(LOOK_SECONDS)
            struck += self.strike(command)

    def look(self, command: Command) -> dict[str, list[psutil.Process]]:
        """The processes below the command by role."""
        found: dict[str, list[psutil.Process]] = {}
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(command.pid).children(recursive=True):
                self.seen[one.pid] = one
                with contextlib.suppress(psutil.Error):
                    role = next((ROLES[part] for part in one.cmdline() if part in ROLES), None)
                    if role is not None:
                        found.setdefault(role, []).append(one)
        return found

    def strike(self, command: Command) -> int:
        """One blow; how many processes it ended."""
        found = self.look(command)
        here = [role for role in found if found[role]]
        if not here:
            return 0
        how = self.rng.choices(("kill", "pair", "stop", "command", "remove"), (6, 2, 2, 1, 1))[0]
        if how == "remove":
            return self.remove()
        if how == "command":
            self._send(command, signal.SIGKILL)
            self.blows["kill command"] += 1
            return 1
        if how == "stop":
            role = self.rng.choice(here)
            victim = self.rng.choice(found[role])
            self._send(victim, signal.SIGSTOP)
            long = self.rng.random() < LONG_STOP
            time.sleep(LONG_SECONDS if long else self.rng.random() * STOPPED_SECONDS)
            self._send(victim, signal.SIGCONT)
            self.blows[f"stop {role} for long" if long else f"stop {role}"] += 1
            return 0
        roles = self.rng.sample(here, min(len(here), 2 if how == "pair" else 1))
        for role in roles:
            self._send(self.rng.choice(found[role]), signal.SIGKILL)
        self.blows[f"kill {' and '.join(sorted(roles))}"] += 1
        return len(roles)

    def kill_one(self, command: Command, roles: Sequence[str]) -> None:
        """End a process of one of these roles; `command` is the command itself."""
        found = self.look(command)
        role = self.rng.choice([one for one in roles if one in found or one == "command"])
        self._send(command if role == "command" else self.rng.choice(found[role]), signal.SIGKILL)
        self.blows[f"kill {role}"] += 1

    def remove(self) -> int:
        """A committed file goes, as if somebody tidied up; a vector's, more often than not."""
        if self.out is None:
            return 0
        pattern = "vectors/*/*.parquet" if self.rng.random() < 0.8 else "chunks/*.parquet"
        there = sorted(path for path in self.out.glob(pattern) if not path.name.startswith("."))
        if not there:
            return 0
        victim = self.rng.choice(there)
        victim.unlink(missing_ok=True)
        self.removed.add(str(victim.relative_to(self.out)))
        self.blows[f"remove {victim.relative_to(self.out).parts[0]}"] += 1
        return 1

    def orphans(self, seconds: float) -> list[psutil.Process]:
        """Of all processes seen, those that still run after so many seconds."""
        gone, alive = psutil.wait_procs(list(self.seen.values()), timeout=seconds)
        for one in gone:
            self.seen.pop(one.pid, None)
        return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def _send(self, process: psutil.Process | Command, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            process.send_signal(number)
