"""All shards of a directory, read and checked before anything is written: whole, of one spec, source and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ...protocol.errors import RunDirectoryError, is_host_failure
from ...protocol.finished_run.shard_states import shard_command
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.passes import PassRecord
from ...protocol.run_directory.records.shards import ShardsRecord, read_shards
from ...protocol.run_directory.run_json import no_shards_yet
from ...protocol.text.number_spans import spans
from .shard_reader import OtherSettings, ShardRunning, read_shard
from .shard_run import ShardRun
from .source_files import find_breaks

SHOWN = 5
"""Shards that a message names with their commands, at most."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The reason why a shard cannot be merged. `anew`: its command needs --restart. `running`: a process computes
    it now, so only waiting helps."""

    shard: int
    reason: str
    anew: bool = False
    running: bool = False


def shards_of(layout: RunLayout) -> ShardsRecord:
    """The record of the directory's shards; RunDirectoryError if it is not made of shards."""
    record = read_shards(layout)
    if record is None and layout.fit.exists() and not layout.spec.exists():
        raise RunDirectoryError(no_shards_yet(layout))
    if record is None and not layout.root.exists():
        raise RunDirectoryError(f"{layout.root}: there is no such folder")
    if record is None:
        raise RunDirectoryError(
            f"{layout.root}: is not made of shards (it has no {layout.shards_record.name}); give the folder that "
            "`embedfleet run --shard` was given as --out"
        )
    return record


def read_all(layout: RunLayout, record: ShardsRecord, show: Callable[[int], None]) -> tuple[ShardRun, ...]:
    """Every shard, in order; `show` gets the number of those that were read. RunDirectoryError names those that cannot be
    merged, each with the command that completes it."""
    places = {one.path: place for place, one in enumerate(record.files)}
    found: list[ShardRun] = []
    faults: list[Fault] = []
    first = 0
    for index in range(record.shards):
        try:
            one = read_shard(layout, record, index, first, places)
        except Exception as error:  # a changed byte of a footer may make the reader raise anything
            if is_host_failure(error):
                raise
            anew, running = isinstance(error, OtherSettings), isinstance(error, ShardRunning)
            faults.append(Fault(index, str(error) or type(error).__name__, anew, running))
        else:
            found.append(one)
            first += one.rows
        show(index + 1)
    faults += other_models(found)
    if not faults:
        faults = _outside(record, found)
    if faults:
        raise RunDirectoryError(describe_faults(layout, record, faults))
    return tuple(found)


def other_models(shards: Sequence[ShardRun]) -> list[Fault]:
    """A fault for each shard whose model of some vector is not that of the first shard with the vector."""
    first: dict[str, tuple[int, PassRecord]] = {}
    faults: list[Fault] = []
    for one in shards:
        for vector, about in one.passes.items():
            other, model = first.setdefault(vector, (one.index, about))
            if about.fingerprint != model.fingerprint:
                what = "; ".join(_differences(about, model)) or "their fingerprints differ"
                reason = f"has another model for {vector} than shard {other}: {what}"
                faults.append(Fault(one.index, reason, anew=True))
    return faults


def _outside(record: ShardsRecord, shards: Sequence[ShardRun]) -> list[Fault]:
    """A fault for each shard that may have left out, or read twice, a part of the source."""
    found: dict[int, Fault] = {}
    for one in find_breaks(record.files, shards):
        for shard in one.shards:
            found.setdefault(shard, Fault(shard, one.reason, anew=True))
    return sorted(found.values(), key=lambda one: one.shard)


def joined_passes(shards: Sequence[ShardRun]) -> Mapping[str, PassRecord]:
    """The record of each vector, with the placements of all shards."""
    found: dict[str, PassRecord] = {}
    for one in shards:
        for vector, about in one.passes.items():
            known = found.setdefault(vector, about)
            placements = tuple(dict.fromkeys((*(known.placements or ()), *(about.placements or ()))))
            found[vector] = msgspec.structs.replace(known, placements=placements)
    return found


def describe_faults(layout: RunLayout, record: ShardsRecord, faults: Sequence[Fault]) -> str:
    """One message for all faults: the first ones with their commands, of the others the numbers of their shards."""
    indexes = sorted({one.shard for one in faults})
    parts = [f"shard {one.shard} {one.reason}{_command(layout, record, one)}" for one in faults[:SHOWN]]
    rest = sorted(set(indexes) - {one.shard for one in faults[:SHOWN]})
    if rest:
        parts.append(f"and {len(rest):,} more ({spans(rest)})")
    first = "Run these commands with the flags that the other shards had"
    if all(one.running for one in faults):
        first = "Wait for them"
    return (
        f"{layout.root}: {len(indexes):,} of {record.shards:,} shards cannot be merged: {'; '.join(parts)}. {first}, then "
        f"`embedfleet merge {layout.root}`"
    )


def _command(layout: RunLayout, record: ShardsRecord, fault: Fault) -> str:
    """In parentheses, the command that completes the shard; empty while another process runs it."""
    if fault.running:
        return ""
    return f" ({shard_command(layout, record, fault.shard)}{' --restart' if fault.anew else ''})"


def _differences(ours: PassRecord, theirs: PassRecord) -> list[str]:
    try:
        return ours.identity().differences(theirs.identity())
    except msgspec.ValidationError:
        return []
