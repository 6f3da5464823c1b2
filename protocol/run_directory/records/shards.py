"""`shards.json`: what all shards of a directory have in common. The first shard writes it; the others must agree with it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...spec.run_spec import RunSpec
from ..json_bytes import read_json
from ..layout import RunLayout
from .intake import FileStamp


class ShardsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `shards.json`."""

    shards: Annotated[int, msgspec.Meta(ge=1)]
    """How many there are."""
    spec: RunSpec
    """The spec of all of them, without `shard`. Its `index` says what a merge makes: each shard has none of its own."""
    files: tuple[FileStamp, ...]
    """The files of the source, as they were when the first shard began."""


def read_shards(layout: RunLayout) -> ShardsRecord | None:
    """The record; None in a directory without shards. RunDirectoryError where the file is damaged."""
    return read_json(layout.shards_record, ShardsRecord)
