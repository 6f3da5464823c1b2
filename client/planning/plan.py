"""The plan of a run. Every figure carries its basis."""

from __future__ import annotations

import msgspec

from ...protocol.planning.model_figures import Basis


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A number and where it is from. `basis` is `counted` (exact), `measured` (timed on this host), `sampled`, `published` or
    `assumed`; a figure that is computed from others has the weakest basis of them."""

    value: float
    basis: Basis
    error: float = 0.0
    """Of a sampled figure: the relative error that 95 of 100 samples stay within; 0 if it is not known, or none."""
    note: str = ""

    def times(self, factor: float) -> Figure:
        """The figure multiplied by an exact number."""
        return msgspec.structs.replace(self, value=self.value * factor)


class PlannedVector(msgspec.Struct, frozen=True, kw_only=True):
    """One vector of a pass, or an ensemble. `dim` is 0 for a sparse vector, and if it is not known."""

    vector: str
    form: str
    dim: int
    storage: str
    bytes_a_row: Figure
    bytes: Figure
    """Of its segments on the disk."""


class PlannedMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that one worker needs on its device, at least: weights, one micro-batch, and the device's own libraries."""

    weights: Figure
    working: Figure
    total: Figure
    device: str
    device_bytes: int
    enough: bool


class PlannedPass(msgspec.Struct, frozen=True, kw_only=True):
    """One model over the whole corpus. None: not known."""

    vector: str
    model: str
    kind: str
    dtype: str
    max_tokens: int
    """0: no limit, or none that is known."""
    parameters: Figure | None
    tokens: Figure
    truncated_share: Figure | None
    """Of the texts."""
    tokens_cut_share: Figure | None
    memory: PlannedMemory | None
    tokens_per_second: Figure | None
    """Of all devices together."""
    seconds: Figure | None
    cost: Figure | None
    vectors: tuple[PlannedVector, ...]
    notes: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The size, time and cost of a run. None: not known. Sizes are in bytes, times in seconds."""

    source: str
    files: int
    source_bytes: int
    rows: Figure
    rejected: Figure
    duplicates: Figure
    text_bytes: Figure
    segments: Figure
    chunk_bytes: Figure
    passes: tuple[PlannedPass, ...]
    ensembles: tuple[PlannedVector, ...]
    bytes: Figure
    """Of all segments, without the collection."""
    collection_bytes: Figure | None
    """Of the embedded collection; None without one."""
    devices: tuple[str, ...]
    start_seconds: Figure | None
    """From the command to the first batch, and from the last result to the end."""
    seconds: Figure | None
    """Of the whole command: with `shards`, of `run --shards N`, whose workers stay from shard to shard."""
    shards: int = 1
    shard_seconds: Figure | None = None
    """Of one shard by a command of its own, `run --shard I/N`, which has a whole start; None without shards."""
    price_per_hour: float | None = None
    cost: Figure | None = None
    notes: tuple[str, ...] = ()
