"""The merge of the shards of a directory: whether it is done and no shard has changed since, and its summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..run_directory.layout import RunLayout, segments_in
from ..run_directory.records.intake import read_intake
from ..run_directory.records.manifest import read_manifest
from ..run_directory.records.merge import MergeRecord, MergeSummary, OnDuplicate, read_merge
from ..run_directory.records.shards import ShardsRecord
from ..run_directory.run_json import read_spec
from .shard_states import manifest_digest


def unchanged_merge(
    layout: RunLayout,
    shards: ShardsRecord,
    on_duplicate: OnDuplicate,
    segments: Callable[[Path], list[int]] = segments_in,
) -> MergeSummary | None:
    """The summary of the merge of these shards if it is done, all its files exist, and no shard has changed since; else None.

    `segments` returns the numbers of the segments in a folder. So a directory in a store is judged by copies of its records
    and a listing, without its segments. RunDirectoryError where a record is damaged.
    """
    merge = read_merge(layout)
    if (
        merge is None
        or not _is_of(layout, shards, merge, on_duplicate)
        or not _is_whole(layout, shards, merge, segments)
    ):
        return None
    return summarize_merge(layout, shards, merge.duplicates, copied=0, changed=False)


def summarize_merge(
    layout: RunLayout, shards: ShardsRecord, duplicates: int, *, copied: int, changed: bool
) -> MergeSummary:
    """The summary of a merge that is done. `copied`: the segments that it has written."""
    manifest, intake = read_manifest(layout), read_intake(layout)
    assert manifest is not None, "the merge is done"
    assert intake is not None, "the merge is done"
    return MergeSummary(
        root=str(layout.root),
        shards=shards.shards,
        rows=intake.rows,
        segments=intake.segments,
        rejected=manifest.counts.rejected,
        quarantined=manifest.counts.quarantined,
        duplicates=duplicates,
        points=manifest.index.points if manifest.index else 0,
        copied=copied,
        changed=changed,
    )


def _is_of(layout: RunLayout, shards: ShardsRecord, merge: MergeRecord, on_duplicate: OnDuplicate) -> bool:
    """Whether the merge was one of these shards as they are now, with the same result for ids in two of them."""
    manifests = tuple(manifest_digest(layout.shard(index)) for index in range(shards.shards))
    same = merge.manifests == manifests and all(manifests)
    return same and (not merge.duplicates or merge.on_duplicate == on_duplicate)


def _is_whole(
    layout: RunLayout, shards: ShardsRecord, merge: MergeRecord, segments: Callable[[Path], list[int]]
) -> bool:
    """Whether all files of the merge exist, with the prompts of queries that the shards have now."""
    vectors = tuple(one.vector for one in shards.spec.outputs)
    records = [layout.spec, layout.manifest, layout.source, layout.limits, layout.intake]
    if merge.segments:
        records += map(layout.pass_file, vectors)
        records += [layout.published] if shards.spec.index != "none" else []
    if vectors != merge.vectors or not all(path.exists() for path in records):
        return False
    if read_spec(layout).query_prompts != shards.spec.query_prompts:
        return False
    expected = list(range(len(merge.segments)))
    return all(segments(folder) == expected for folder in (layout.chunks, *map(layout.vector_folder, vectors)))
