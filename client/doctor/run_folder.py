"""A run directory: who works on it, whether a lock is stale, whether the models that it still needs can be had, and whether its
store can be read and written."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ...protocol.errors import EmbedfleetError, RunDirectoryError, SourceError
from ...protocol.host.hub_cache import find_cached
from ...protocol.object_storage.address import STORES, Address, with_addresses
from ...protocol.object_storage.copies import copied_records
from ...protocol.object_storage.probe import check_store, is_object, probe
from ...protocol.run_directory.directory_lock import STORE_LOCK, read_holder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.shards import read_shards
from ...protocol.run_directory.run_json import no_shards_yet, read_spec
from ...protocol.source.remote_files import Listing
from ...protocol.spec import catalog
from ...protocol.spec.fake_models import PREFIX
from ...protocol.spec.run_spec import CPU_KINDS, PassSpec, RunSpec
from ...protocol.wire.model_refusal import PassToCheck
from ..models.presence import find_presence
from ..output.formatting import pluralize
from ..run_directory.shards_info import describe_shards, shard_lines
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
class Store:
    """Why an address cannot be read or written, with the remedy; empty if it can, or writing was not tried.

    `written` is whether an object was put there and deleted. `files` counts those of an address that can be a source but no run
    directory; None for others.
    """

    unreadable: str = ""
    unwritable: str = ""
    written: bool = False
    files: int | None = None

    @property
    def refused(self) -> str:
        """Why it cannot be used."""
        return self.unreadable or self.unwritable


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder or address that was named. `shards` is how far its shards are, if they are not merged, and the next command.
    `trouble` is why it is no run directory; empty if it is one, or a run may be made there. `store` is None for a folder."""

    path: str
    is_run: bool = False
    done: bool = False
    shards: str = ""
    trouble: str = ""
    locks: tuple[Lock, ...] = ()
    needs: tuple[NeededModel, ...] = ()
    store: Store | None = None


def measure_run(path: Path) -> tuple[RunFolder, list[PassToCheck]]:
    """The folder, and a check for each model that it still needs. Reads only."""
    layout = RunLayout(path)
    try:
        locks = tuple(_locks(layout))
        if _is_unused(layout):
            return RunFolder(str(path), locks=locks), []
        if (shards := describe_shards(path)) is not None and (record := read_shards(layout)) is not None:
            checks, needs = _needed(record.spec if shards["done"] < shards["shards"] else None)
            return RunFolder(str(path), shards="; ".join(shard_lines(shards)), locks=locks, needs=needs), checks
        if layout.fit.is_file() and not layout.spec.exists():
            fitted = no_shards_yet(layout).removeprefix(f"{path}: ")
            return RunFolder(str(path), shards=fitted, locks=locks), []
        spec = read_spec(layout)
    except RunDirectoryError as error:
        return RunFolder(str(path), trouble=str(error).removeprefix(f"{path}: ")), []
    except OSError as error:
        return RunFolder(str(path), trouble=f"cannot be read ({error.strerror or error})"), []
    done = layout.manifest.exists()
    checks, needs = _needed(None if done else spec)
    return RunFolder(str(path), True, done, locks=locks, needs=needs), checks


def measure_address(address: Address) -> tuple[RunFolder, list[PassToCheck]]:
    """The same for an address, and whether it can be read and written: for that, an object is put there and deleted, except
    beside or in the place of objects of others. RunDirectoryError for a whole bucket."""
    path = str(address)
    if address.scheme not in STORES:
        return _measure_source(address), []
    check_store(address, "DIR")
    layout = RunLayout(Path())
    names = [one.name for one in (layout.spec, layout.manifest, layout.shards_record, layout.fit)]
    try:
        with copied_records(address, "DIR", names, shards=True) as folder:
            run, checks = measure_run(folder)
            if folder.exists() and not any(folder.iterdir()):
                run = replace(run, trouble="has objects below it, but none of a run")
            elif not folder.exists() and is_object(address, "DIR"):
                return _measure_source(address), []
    except RunDirectoryError as error:
        return RunFolder(path, store=Store(_reason(error, address))), []
    store = Store()
    if not run.trouble:
        try:
            probe(address)
            store = Store(written=True)
        except RunDirectoryError as error:
            store = Store(unwritable=_reason(error, address))
    locks = tuple(replace(one, path=with_addresses(one.path)) for one in run.locks)
    shards, trouble = with_addresses(run.shards), with_addresses(run.trouble)
    return replace(run, path=path, shards=shards, trouble=trouble, locks=locks, store=store), checks


def _measure_source(address: Address) -> RunFolder:
    """An address that can be a source only."""
    try:
        return RunFolder(str(address), store=Store(files=len(Listing(str(address), is_file=True).files)))
    except SourceError as error:
        return RunFolder(str(address), store=Store(_reason(error, address), files=0))


def _reason(error: EmbedfleetError, address: Address) -> str:
    """The message without the address, which the finding names."""
    return str(error).rpartition(f"{address}: ")[2].removeprefix("cannot be read: ")


def _is_unused(layout: RunLayout) -> bool:
    """Whether nothing is there but locks: of a command that has just begun, or was killed then."""
    if not layout.root.is_dir():
        return not layout.root.exists()
    found = [*layout.root.iterdir(), *(layout.shards.iterdir() if layout.shards.is_dir() else ())]
    return all(one.name in (STORE_LOCK, layout.lock.name) or one == layout.shards for one in found)


def _needed(spec: RunSpec | None) -> tuple[list[PassToCheck], tuple[NeededModel, ...]]:
    """The models of a spec that is not done; none without one."""
    passes = spec.passes if spec is not None else ()
    checks = [_check(one) for one in passes if one.kind not in CPU_KINDS and not one.model.startswith(PREFIX)]
    return checks, tuple(NeededModel(one.vector, one.model, _is_here(one)) for one in checks)


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
    for one in (layout, RunLayout(layout.queries), RunLayout(layout.scores), RunLayout(layout.shards)):
        read = read_holder(one)
        if read is not None and (read[0].pid or read[1]):
            holder, held = read
            here = holder.host in ("", socket.gethostname())
            path = one.lock if one.lock.exists() else one.root / STORE_LOCK
            found.append(Lock(str(path), held, holder.pid, holder.host, holder.since, here))
    return found


def run_findings(run: RunFolder, refused: Mapping[str, str], hub: Hub) -> list[Finding]:
    """What stands in the way of a run in this folder. `refused` has the refused checks of `measure_run` by `vector`."""
    found = _judge_store(run.path, run.store) if run.store is not None else []
    if run.store is not None and (run.store.refused or run.store.files is not None):
        return found
    if run.trouble:
        remedy = "give the folder of a run, or one that is empty or does not exist yet"
        return [*found, Finding("problem", "run", "no-run-directory", f"{run.path}: {run.trouble}", remedy)]
    found += [_judge_lock(one) for one in run.locks]
    found += [one for need in run.needs for one in _judge_model(need, refused.get(need.vector, ""), hub)]
    return [*found, Finding("ok", "run", "run", f"{run.path}: {_state(run)}")]


def _state(run: RunFolder) -> str:
    if run.is_run:
        return f"a run directory, {'done' if run.done else 'not finished'}"
    begun = any(one.held for one in run.locks)
    return run.shards or ("a run has just begun there" if begun else "a run can be made there")


def _judge_store(address: str, store: Store) -> list[Finding]:
    if store.refused:
        text, _, remedy = store.refused.partition("; ")
        name, what = (
            ("unreadable", "cannot be read") if store.unreadable else ("unwritable", "can be read, not written")
        )
        return [Finding("problem", "store", f"store-{name}", f"{address} {what}: {text}", remedy or "do what it says")]
    if store.files is not None:
        files = pluralize(store.files, "file")
        return [Finding("ok", "store", "store", f"{address}: {files} can be read, as a source; no run can be there")]
    can = "can be read and written" if store.written else "can be read; writing was not tried"
    return [Finding("ok", "store", "store", f"{address} {can}")]


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
