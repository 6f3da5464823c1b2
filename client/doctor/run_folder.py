"""A run directory: who works on it, whether a lock is stale, and whether the models that it still needs can be had."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.host.hub_cache import find_cached
from ...protocol.run_directory.directory_lock import read_holder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.run_json import read_spec
from ...protocol.spec import catalog
from ...protocol.spec.fake_models import PREFIX
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec
from ...protocol.wire.model_refusal import PassToCheck
from ..models.presence import find_presence
from .finding import Finding
from .hub import Hub

RUN = "run|"
"""Begins the `vector` of a check of the run's models, which other checks do not have."""
AGAIN = "run the same command again: it resumes, and nothing needs to be deleted"


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file that names a process. `held` is whether a process of this host holds it now."""

    path: str
    held: bool
    pid: int
    host: str
    since: float
    """Unix time, seconds; 0 if not known."""
    here: bool
    """Whether the process is of this host."""


@dataclass(frozen=True, slots=True)
class NeededModel:
    """A model that the unfinished run needs. `here` is whether it is on this host, in whatever state."""

    vector: str
    model: str
    here: bool


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that was named. `trouble` is why it is no run directory; empty if it is one, or a run may be made there."""

    path: str
    is_run: bool = False
    done: bool = False
    trouble: str = ""
    locks: tuple[Lock, ...] = ()
    needs: tuple[NeededModel, ...] = ()


def measure_run(path: Path) -> tuple[RunFolder, list[PassToCheck]]:
    """The folder, and a check for each model that it still needs. Reads only."""
    layout = RunLayout(path)
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return RunFolder(str(path)), []
        spec = read_spec(layout)
    except RunDirectoryError as error:
        return RunFolder(str(path), trouble=str(error).removeprefix(f"{path}: ")), []
    except OSError as error:
        return RunFolder(str(path), trouble=f"cannot be read ({error.strerror or error})"), []
    done = layout.manifest.exists()
    asked = [one for one in spec.passes if one.kind not in CPU_KINDS and not one.model.startswith(PREFIX)]
    checks = [] if done else [_check(one) for one in asked]
    needs = tuple(NeededModel(one.vector, one.model, _is_here(one)) for one in checks)
    return RunFolder(str(path), True, done, "", tuple(_locks(layout)), needs), checks


def _check(one: PassSpec) -> PassToCheck:
    return PassToCheck(**msgspec.structs.asdict(msgspec.structs.replace(one, vector=f"{RUN}{one.vector}")))


def _is_here(one: PassSpec) -> bool:
    if os.path.isdir(one.model):
        return True
    entry = catalog.find(one.model) or catalog.CatalogEntry(hub=one.model, dim=0, max_tokens=0)
    if one.revision is not None:
        return find_cached(entry.hub) is not None
    return find_presence(entry)[0] in ("cache", "package")


def _locks(layout: RunLayout) -> list[Lock]:
    found: list[Lock] = []
    for one in (layout, RunLayout(layout.queries), RunLayout(layout.scores)):
        read = read_holder(one)
        if read is not None and (read[0].pid or read[1]):
            holder, held = read
            here = holder.host in ("", socket.gethostname())
            found.append(Lock(str(one.lock), held, holder.pid, holder.host, holder.since, here))
    return found


def run_findings(run: RunFolder, refused: Mapping[str, str], hub: Hub) -> list[Finding]:
    """What stands in the way of a run in this folder. `refused` has the refused checks of `measure_run` by `vector`."""
    if run.trouble:
        remedy = "give the folder of a run, or one that is empty or does not exist yet"
        return [Finding("problem", "run", "no-run-directory", f"{run.path}: {run.trouble}", remedy)]
    if not run.is_run:
        return [Finding("ok", "run", "run", f"{run.path}: a run can be made there")]
    found = [_judge_lock(one) for one in run.locks]
    found += [one for need in run.needs for one in _judge_model(need, refused.get(need.vector, ""), hub)]
    state = "done" if run.done else "not finished"
    return [*found, Finding("ok", "run", "run", f"{run.path}: a run directory, {state}")]


def _judge_lock(lock: Lock) -> Finding:
    when = f" since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(lock.since))}" if lock.since else ""
    who = f"process {lock.pid} on {lock.host}{when}" if lock.pid else "a process of another version"
    if lock.held:
        return Finding("note", "run", "run-locked", f"{lock.path}: {who} is at work there", "wait for it, or end it")
    if not lock.here:
        text = f"{lock.path} names {who}: locks of another host are not visible here"
        return Finding("note", "run", "lock-elsewhere", text, f"if it runs no more on {lock.host}, {AGAIN}")
    text = f"{lock.path} is stale: it names {who}, which does not hold it any more: it was killed"
    return Finding("note", "run", "stale-lock", text, AGAIN)


def _judge_model(need: NeededModel, refusal: str, hub: Hub) -> list[Finding]:
    vector = need.vector.removeprefix(RUN)
    if not refusal:
        return []
    if need.here:
        text = f"{vector} needs {need.model}, which cannot be used: {refusal.partition(': ')[2] or refusal}"
        return [Finding("problem", "run", "run-model-unusable", text, "do what the message says, then resume")]
    if hub.answers:
        return [Finding("ok", "run", "run-model", f"{vector} needs {need.model}: not on this host, the run fetches it")]
    why = f"offline by {hub.offline}" if hub.offline else "the hub cannot be reached"
    text = f"{vector} needs {need.model}, which is not on this host, and {why}"
    remedy = f"where there is a network: embedfleet models pull {need.model}; then copy the hub's cache here"
    return [Finding("problem", "run", "run-model-offline", text, remedy)]
