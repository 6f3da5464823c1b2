"""The shards of a directory before they are merged: how far each is, and the command that completes it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from ..errors import EmbedfleetError
from ..run_directory.directory_lock import read_holder
from ..run_directory.layout import RunLayout
from ..run_directory.records.manifest import read_manifest
from ..run_directory.records.merge import MergeRecord
from ..run_directory.records.shards import ShardsRecord
from ..run_directory.run_json import read_spec
from ..spec.differences import differences
from ..spec.run_spec import RunSpec
from ..spec.shard import Shard

State = Literal["done", "running", "unfinished", "missing"]

STATES: dict[State, str] = {
    "done": "is done",
    "running": "is running now",
    "unfinished": "was not finished",
    "missing": "was not begun",
}
"""The states in words."""


@dataclass(frozen=True, slots=True)
class ShardState:
    """One shard. `done` goes by its manifest and its spec: a merge checks the files."""

    index: int
    state: State


def read_states(layout: RunLayout, record: ShardsRecord) -> Iterator[ShardState]:
    """The state of each shard of the directory, in their order. A shard that lacks a model of the record is not finished."""
    for index in range(record.shards):
        state = shard_state(layout.shard(index))
        is_open = state == "done" and not is_done(layout, record, index)
        yield ShardState(index, "unfinished" if is_open else state)


def is_done(layout: RunLayout, record: ShardsRecord, index: int) -> bool:
    """Whether a shard was run to its end, by the spec of the record."""
    folder = layout.shard(index)
    try:
        manifest = read_manifest(folder)
        return manifest is not None and manifest.done and not spec_differences(read_spec(folder), record, index)
    except EmbedfleetError:
        return False


def spec_differences(spec: RunSpec, record: ShardsRecord, index: int) -> list[str]:
    """The fields in which the spec of shard `index` differs from that of the record. The source may have another path on the
    host that ran the shard: a merge compares its files."""
    shard = Shard(index, record.shards)
    return differences(spec, msgspec.structs.replace(record.spec, shard=shard, index=spec.index, source=spec.source))


def shard_state(layout: RunLayout) -> State:
    """The state of the shard with this run directory, whatever its spec."""
    if layout.manifest.exists():
        return "done"
    holder = read_holder(layout)
    if holder is not None and holder[1]:
        return "running"
    return "unfinished" if layout.spec.exists() or layout.limits.exists() else "missing"


def manifest_digest(layout: RunLayout) -> str:
    """A digest of a shard's manifest; empty while there is none."""
    try:
        return hashlib.blake2b(layout.manifest.read_bytes(), digest_size=8).hexdigest()
    except FileNotFoundError:
        return ""


def changed_shards(layout: RunLayout, merge: MergeRecord) -> list[int]:
    """The shards that were run again since the merge."""
    now = enumerate(manifest_digest(layout.shard(index)) for index in range(len(merge.manifests)))
    return [index for index, digest in now if digest and digest != merge.manifests[index]]


def shard_command(layout: RunLayout, record: ShardsRecord, index: int) -> str:
    """The command that computes a shard, without the flags of models."""
    words = ["embedfleet", "run", record.spec.source, "--out", str(layout.root)]
    return f"{shlex.join(words)} --shard {Shard(index, record.shards)}"
