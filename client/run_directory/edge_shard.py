"""Open the embedded Qdrant Edge shard of a run, to search it or read it back."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ...protocol.errors import RunDirectoryError, UsageError, unreadable
from ...protocol.finished_run.published import decode_published
from ...protocol.index.shard import ShardRefused, load_shard
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.run_json import reasons_in
from ...protocol.spec.run_spec import RunSpec
from .files import AGAIN, is_being_written

if TYPE_CHECKING:
    import qdrant_edge

PATIENCE = 2.0
"""Seconds to retry a shard that another search holds."""
LEAST_ROOM = 1 << 20
"""Free bytes on the disk that opening a shard needs."""


class ShardUnavailable(RunDirectoryError):
    """The shard cannot be opened now: it is in use, or its folder is not writable. Its contents may be whole."""


def published_segments(layout: RunLayout) -> list[int]:
    """The segments in the shard, by `published.json`; empty if nothing is published."""
    return sorted(published_digests(layout))


def published_digests(layout: RunLayout) -> dict[int, str]:
    """By segment, the digest of its published vectors. RunDirectoryError if `published.json` is damaged."""
    if not (layout.edge / "edge_config.json").is_file():
        return {}
    try:
        return decode_published(layout.published.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        damage = f"{layout.published}: cannot be read ({error}); delete it and {AGAIN}"
        raise unreadable(layout.published, error, damage) from error


def check_searchable(layout: RunLayout, spec: RunSpec) -> None:
    """Raise UsageError or RunDirectoryError if this run cannot be searched."""
    if spec.index == "none":
        raise UsageError(f"{layout.root}: made with --index none, so there is nothing to search; run with --index edge")
    if not engine_installed():
        raise UsageError("searching needs the Qdrant Edge engine: pip install 'embedfleet[qdrant]'")
    if published_segments(layout):
        return
    if is_being_written(layout):
        raise RunDirectoryError(
            f"{layout.root}: a run is writing there and has published nothing yet; search again later"
        )
    if layout.intake.exists() and not segments_in(layout.chunks):
        raise RunDirectoryError(
            f"{layout.root}: the run has no rows: all its records are in quarantine, {reasons_in(layout)}"
        )
    raise RunDirectoryError(f"{layout.root}: nothing is published yet; {AGAIN} and let it finish")


def engine_installed() -> bool:
    return find_spec("qdrant_edge") is not None


@contextmanager
def open_shard(layout: RunLayout) -> Generator[qdrant_edge.EdgeShard]:
    """The shard, locked until the block ends. RunDirectoryError if another process holds it or it cannot be read."""
    shard = _load(layout)
    try:
        yield shard
    finally:
        shard.close()


def _load(layout: RunLayout) -> qdrant_edge.EdgeShard:
    if _is_full(layout.edge):  # writing to a memory-mapped file would kill the process
        raise ShardUnavailable(f"{layout.edge}: the disk is full, and opening the collection writes to it; make room")
    try:
        return load_shard(layout.edge, PATIENCE)
    except ShardRefused as refused:
        match refused.reason:
            case "locked":
                raise ShardUnavailable(
                    f"{layout.edge}: in use by another process; wait until the run has ended, or a search's prompt is closed, "
                    "then search again"
                ) from None
            case "read-only":
                raise ShardUnavailable(
                    f"{layout.edge}: the engine writes into the folder that it opens, and cannot here; "
                    "copy the run to a folder that can be written"
                ) from refused
            case "host" | "damaged":
                raise RunDirectoryError(
                    f"{layout.edge}: the shard cannot be opened ({refused}); delete the folder and published.json and {AGAIN}"
                ) from refused


def _is_full(folder: Path) -> bool:
    """Whether the folder's disk has less than LEAST_ROOM free; False if the file system does not report its size."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False  # the engine reports the error
    return disk.f_blocks > 0 and disk.f_bavail * disk.f_frsize < LEAST_ROOM
