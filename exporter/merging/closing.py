"""The last files of a merge: the records of intake and passes, the collection, and what is counted from all files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.atomic_files import commit_bytes
from ...protocol.run_directory.json_bytes import decode_json, pretty_json
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.intake import IntakeRecord
from ...protocol.run_directory.records.manifest import Counts
from ...protocol.run_directory.records.shards import ShardsRecord
from ...protocol.run_directory.records.stats import read_stats
from ...protocol.run_directory.segment_info import Cursor
from ...protocol.spec.output_dims import output_dims
from ..index.edge_index import EdgeIndex
from ..run_directory.balance import find_difference, find_imbalance
from ..run_directory.file_stamps import FileStamps
from ..run_directory.manifest import recount, truncations, write_manifest, write_quarantine
from ..run_directory.stats import add_truncation, join_stats, write_stats
from .all_shards import joined_passes
from .duplicates import LeftOut
from .merged_directory import MergedDirectory
from .plan import Plan, counts_of
from .shard_run import ShardRun
from .source_files import SourceFiles


def write_records(
    layout: RunLayout,
    record: ShardsRecord,
    shards: Sequence[ShardRun],
    plan: Plan,
    left_out: LeftOut,
    source: SourceFiles,
) -> None:
    """Write the records of the intake and of the passes, as one run over the whole source has them."""
    commit_bytes(layout.limits, msgspec.json.encode(plan.limits))
    commit_bytes(layout.source, msgspec.json.encode(record.files))
    found = counts_of([one for shard in shards for one in shard.inputs], left_out)
    last = plan.segments[-1].info.cursor if plan.segments else Cursor()
    counts = IntakeRecord(
        segments=len(plan.segments),
        rows=plan.rows,
        rejected=found.rejected,
        duplicates=found.duplicates,
        notes=found.notes,
        complete=True,
        finished=source.after(last),
    )
    commit_bytes(layout.intake, msgspec.json.encode(counts))
    for vector, about in joined_passes(shards).items():
        of_shard = next(one.layout.pass_file(vector) for one in shards if vector in one.passes)
        content = decode_json(of_shard.read_bytes(), dict[str, object])  # with what a later version has put there
        commit_bytes(layout.pass_file(vector), pretty_json(content | {"placements": about.placements}))


def publish(
    layout: RunLayout, record: ShardsRecord, shards: Sequence[ShardRun], plan: Plan, show: Callable[[int], None]
) -> int:
    """Put all segments into the collection that the spec wants, and return its points; 0 for none. `show` gets the number of
    rows that are in it."""
    spec = record.spec
    if spec.index == "none" or not plan.segments:
        return 0
    passes = joined_passes(shards)
    found = {number: passes[one.outputs[0].vector].identity() for number, one in enumerate(spec.passes)}
    dims = output_dims(spec, found)
    index = EdgeIndex(layout, spec)
    try:
        for one in plan.segments:
            index.publish(one.info.segment, dims)
            show(one.info.first_row + one.info.rows)
        index.complete([one.info.segment for one in plan.segments], dims)
        return index.count()
    finally:
        index.close()


def finish(
    layout: RunLayout,
    record: ShardsRecord,
    shards: Sequence[ShardRun],
    plan: Plan,
    points: int,
    run: str,
    directory: MergedDirectory,
) -> Counts:
    """Recount from the files, and write `quarantine.jsonl`, `stats.json`, `spec.json` and, last, `manifest.json`."""
    spec = record.spec
    if problem := find_imbalance(layout, spec, FileStamps(), len(plan.segments)):
        raise RunDirectoryError(f"{layout.root}: {problem}")
    counts, passes = recount(layout, spec)
    if problem := find_difference(counts, points if spec.index == "edge" else None):
        layout.published.unlink(missing_ok=True)  # the next merge makes the collection anew
        raise RunDirectoryError(f"{layout.root}: {problem}")
    write_quarantine(layout, spec)
    rows = {one.vector: one.rows for one in passes}
    by_pass = {one.vector: min(rows[output.vector] for output in one.outputs) for one in spec.passes}
    stats = join_stats((read_stats(one.layout) for one in shards), by_pass)
    found = truncations(passes)
    first = {one.vector: one.outputs[0].vector for one in spec.passes}  # a pass's vectors have the same tokens
    stats = add_truncation(stats, {name: found[vector] for name, vector in first.items() if vector in found})
    write_stats(layout.stats, msgspec.structs.replace(stats, run=run, status="done"))
    directory.finish()
    write_manifest(layout, spec, run, counts, passes, points)
    return counts
