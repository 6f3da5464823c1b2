"""`embedfleet run` on a directory with merged shards: nothing is left to embed, and only the steps after it are done."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ...protocol.errors import RunDirectoryError, SpecMismatch
from ...protocol.object_storage.copies import scratch_records
from ...protocol.object_storage.objects import ObjectFolder
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.records.manifest import Manifest, read_manifest
from ...protocol.run_directory.run_json import read_spec
from ...protocol.spec.differences import differences
from ...protocol.spec.run_spec import PassSpec, RunSpec
from ...protocol.wire.control import PassSummary, RunEnded


def merged_run(spec: RunSpec, out: Path, *, restart: bool, later: bool) -> RunEnded | None:
    """The end of the run that was merged in `out`; None for a folder without shards. `later`: there are steps after the run.

    RunDirectoryError as by `refuse_shards`. SpecMismatch if the merged run is one of another spec.
    """
    layout = RunLayout(out)
    manifest = refuse_shards(layout, restart=restart, later=later)
    if manifest is None:
        return None
    before = read_spec(layout)
    ours = msgspec.structs.replace(
        spec, preprocessing=before.preprocessing, source=before.source, passes=_with_fitted_figures(spec, before)
    )
    if found := differences(ours, before):
        raise SpecMismatch(
            f"--out {out} was merged from shards of another spec: {'; '.join(found)}. Give the flags that the shards had"
        )
    counts = manifest.counts
    return RunEnded(
        run=manifest.run or "",
        status="done",
        chunks=counts.chunks,
        committed=counts.committed,
        quarantined=counts.quarantined,
        skipped_duplicates=counts.skipped_duplicates,
        seconds=0.0,
        passes=tuple(_summary(one, manifest) for one in spec.passes),
        notes=counts.notes,
    )


def refuse_shards(layout: RunLayout, *, restart: bool, later: bool) -> Manifest | None:
    """The manifest of the run that was merged there; None for a folder without shards. Only three records are read.

    RunDirectoryError where `run` has nothing to do there: without steps after it, with --restart, and while the shards are not
    merged.
    """
    out = layout.root
    if not layout.shards_record.exists():
        return None
    if restart:
        raise RunDirectoryError(
            f"--out {out} is made of shards, which --restart does not remove: run a shard again with --shard I/N --restart, or "
            "delete the folder yourself"
        )
    manifest = read_manifest(layout) if layout.spec.exists() else None
    if manifest is None:
        raise RunDirectoryError(
            f"--out {out} is made of shards, and they are not merged: give --shard I/N and, once all are done, "
            f"`embedfleet merge {out}`; `embedfleet info {out}` shows which are"
        )
    if not later:
        raise RunDirectoryError(
            f"--out {out} is made of shards, and they are merged: nothing is left to embed. Run shards again with --shard I/N, "
            f"and `embedfleet merge {out}` takes in what has changed; --queries and --export work on it as it is"
        )
    return manifest


def refuse_stored_shards(objects: ObjectFolder, *, restart: bool, later: bool) -> None:
    """`refuse_shards` for a run directory in object storage, before anything else is fetched."""
    names = RunLayout(Path())
    with scratch_records(objects, [names.shards_record.name, names.spec.name, names.manifest.name]) as folder:
        refuse_shards(RunLayout(folder), restart=restart, later=later)


def _summary(one: PassSpec, manifest: Manifest) -> PassSummary:
    """A pass as one whose rows were all committed before."""
    about = next(found for found in manifest.passes if found.vector == one.outputs[0].vector)
    return PassSummary(
        vector=one.vector,
        model=one.model,
        device="",
        chunks=about.rows,
        chunks_per_second=0.0,
        tokens_per_second=0.0,
        padding=0.0,
        rotation_gap_seconds=None,
        truncation=about.truncation,
        max_tokens=about.max_tokens or 0,
        earlier=about.rows,
    )


def _with_fitted_figures(spec: RunSpec, before: RunSpec) -> tuple[PassSpec, ...]:
    """The passes, with the figures of the whole source that the shards had: they are measured, not typed."""
    known = {one.vector: one for one in before.passes}
    return tuple(
        msgspec.structs.replace(
            one,
            average_length=one.average_length or known[one.vector].average_length,
            int8_ranges=one.int8_ranges or known[one.vector].int8_ranges,
        )
        if one.vector in known
        else one
        for one in spec.passes
    )
