"""The survey of a source: the request to `embedfleet.coordinator.planning.survey`, its answer, and its two sample files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..spec.run_spec import RunSpec
from ..wire.devices import Device

SAMPLE_ROWS = 32_768
"""Records in the sample: all of a smaller source, else between this number and twice as many."""


class SurveyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The source, and the devices of the plan."""

    spec: RunSpec
    folder: str
    """An empty folder for the sample."""
    out: str = ""
    """The run directory, whose files are no part of the source."""
    devices: str | None = None
    """As `--devices` has them; None: those that a run would take."""
    gpus: bool = False
    """Plan for GPUs that need not be here: the devices of this host are not looked for."""
    sample_rows: int = SAMPLE_ROWS


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What the source holds, and what becomes of it. `exact`: every record was read as the run reads it."""

    exact: bool
    files: int
    source_bytes: int
    """As the files are on the disk."""
    records: int
    """Always counted: lines that are not blank, elements of arrays, rows of Parquet."""
    looked_at: int
    """Records of the sample."""
    rows: int
    rejected: int
    duplicates: int
    rare_duplicates: bool = False
    """Whether the sample has too few duplicates to estimate their number, so that none were assumed."""
    text_bytes: int
    """UTF-8 of the texts of all rows."""
    sampled_rows: int
    """Rows in the sample files."""
    segments: int
    segment_rows: int
    """Of a usual segment."""
    chunk_bytes: int
    """Of the chunk segments on the disk."""
    devices: tuple[Device, ...] = ()
    notes: tuple[str, ...] = ()


def sample_table(folder: Path) -> Path:
    """The sample's rows as Parquet: `id`, `text`, and `metadata` as JSON or null."""
    return folder / "sample.parquet"


def sample_source(folder: Path) -> Path:
    """The same rows as a source of JSON lines, for a run, in an order of which any beginning is an even sample."""
    return folder / "sample.jsonl"
