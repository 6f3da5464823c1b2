"""`merge.json`: what the merged files of a directory were made of. Written before any of them, and kept."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..json_bytes import read_json
from ..layout import RunLayout

OnDuplicate = Literal["fail", "first"]
"""What a merge does about an id in two shards: refuse it, or keep the first record, as one run would."""


class MergeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `merge.json`. Files with their final names are those of this record."""

    format: int = 1
    embedfleet: str = ""
    """The version that wrote it."""
    on_duplicate: OnDuplicate
    duplicates: int
    """Rows of the shards that were left out, since an earlier shard has their id."""
    manifests: tuple[str, ...]
    """A digest of the manifest of each shard."""
    vectors: tuple[str, ...]
    """The names of the vectors."""
    segments: tuple[str, ...]
    """For each merged segment, a digest of all that it is made of."""


class MergeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a merge reports at its end, and `--json` prints. It is in no file."""

    root: str
    shards: int
    rows: int
    segments: int
    rejected: int
    quarantined: int
    duplicates: int
    """Rows that were left out, since an earlier shard has their id."""
    points: int
    copied: int
    """Segments that this merge wrote. The others were there already."""
    changed: bool
    """False if the shards were merged before, and are the same."""


def read_merge(layout: RunLayout) -> MergeRecord | None:
    """The record; None before the first merge. RunDirectoryError where the file is damaged."""
    return read_json(layout.merge_record, MergeRecord)
