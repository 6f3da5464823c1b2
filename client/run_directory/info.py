"""Describe a run directory, for `embedfleet info`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import msgspec

from ...protocol.errors import unreadable
from ...protocol.run_directory.int8_count import Int8Count
from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.intake import IntakeCounts, read_intake
from ...protocol.run_directory.records.manifest import read_manifest
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.segment_info import ChunkSegmentInfo, VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.run_directory.truncation import Truncation, segment_truncation, sum_truncations
from ...protocol.spec.run_spec import CPU_KINDS, Output, RunSpec
from ..arguments import run_folder
from .description import ChunksDescription, RunDescription, VectorDescription
from .edge_shard import published_segments
from .files import AGAIN, read_spec
from .running import interrupted, look, look_at_shards
from .shards_info import stale_line


def describe_run(path: str | PathLike[str]) -> RunDescription:
    """The contents of the run directory `path`, as JSON values. Of segments, only footers are read.

    RunDirectoryError if there is no run, or a file is torn.
    """
    layout = RunLayout(run_folder(path))
    spec = read_spec(layout)
    manifest, running = read_manifest(layout), look(layout) or look_at_shards(layout)
    status = "interrupted" if manifest is None else manifest.status
    return {
        "root": str(layout.root),
        "status": status if running is None else "running",
        "running": running.to_json() if running is not None else None,
        "spec": msgspec.to_builtins(spec),
        "chunks": _chunks(layout),
        "vectors": [_vector(layout, _requested_model(spec, one), one) for one in spec.outputs],
        "index": {
            "kind": spec.index,
            "published_segments": len(published_segments(layout)),
            "bytes": _bytes_under(layout.edge),
        },
    }


def describe_state(path: str | PathLike[str]) -> str:
    """One line about a run that is not done: the process at work and its progress, or how far an interrupted run came and how
    to resume it; or about shards that are run, or were run again, since they were merged. Empty for a run that is done."""
    layout = RunLayout(run_folder(path))
    running = look(layout) or look_at_shards(layout)
    return str(running) if running is not None else interrupted(layout) or stale_line(layout)


def _chunks(layout: RunLayout) -> ChunksDescription:
    paths = [layout.chunk_segment(segment) for segment in segments_in(layout.chunks)]
    infos = [read_info(path, ChunkSegmentInfo) for path in paths]
    # After the source is read, the intake's totals: they include the records after the last chunk.
    ended = read_intake(layout)
    counts = ended if ended is not None else _so_far(layout, infos)
    return {
        "rows": sum(info.rows for info in infos),
        "segments": len(infos),
        "rejected": counts.rejected,
        "duplicates": counts.duplicates,
        "notes": counts.notes,
        "intake_done": ended is not None,
        "bytes": sum(path.stat().st_size for path in paths),
    }


def _so_far(layout: RunLayout, infos: Sequence[ChunkSegmentInfo]) -> IntakeCounts:
    rejected = sum(info.rejected for info in infos)
    if not infos:  # no record could be used so far
        files = map(layout.rejected_segment, layout.rejected_segments())
        rejected = sum(map(_count_lines, files))
    return IntakeCounts(
        segments=len(infos),
        rows=sum(info.rows for info in infos),
        rejected=rejected,
        duplicates=sum(info.duplicates for info in infos),
        complete=False,
        notes=dict(sum((Counter(info.notes) for info in infos), Counter[str]())),
    )


def _count_lines(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def _requested_model(spec: RunSpec, output: Output) -> str:
    """The model as the spec names it."""
    return next((pass_.model for pass_ in spec.passes if output in pass_.outputs), output.kind)


def _vector(layout: RunLayout, model: str, output: Output) -> VectorDescription:
    paths = [
        layout.vector_segment(output.vector, segment) for segment in segments_in(layout.vector_folder(output.vector))
    ]
    infos = [read_info(path, VectorSegmentInfo) for path in paths]
    truncation = sum_truncations(_truncation(path, info) for path, info in zip(paths, infos, strict=True))
    cut = truncation.record() if output.kind not in CPU_KINDS else None
    about = read_pass(layout, output.vector) or PassRecord()
    int8 = Int8Count()
    for info in infos:
        int8.add(info)
    described: VectorDescription = {
        "vector": output.vector,
        "kind": output.kind,
        # for a model in a folder, the record of the pass has only the folder's name
        "model": model if Path(model).is_absolute() else about.model or model,
        "form": output.form,
        "dim": about.output_dim or None,
        "storage": output.storage if output.form == "dense" else None,
        "dtype": about.dtype or "auto",
        "rows": sum(info.rows for info in infos),
        "quarantined": sum(info.quarantined for info in infos),
        "stood_in": sum(info.stood_in for info in infos),
        "tokens": sum(info.tokens for info in infos),
        "max_tokens": about.max_tokens or None,
        "truncated": cut["truncated"] if cut is not None else None,
        "truncated_share": cut["truncated_share"] if cut is not None else None,
        "tokens_cut": cut["tokens_cut"] if cut is not None else None,
        "tokens_cut_share": cut["tokens_cut_share"] if cut is not None else None,
        "segments": len(infos),
        "bytes": sum(path.stat().st_size for path in paths),
        "fingerprint": about.fingerprint or None,
        "settings": about.settings or {},
    }
    if output.storage == "int8":
        described["float16_segments"], described["worst_cosine"] = int8.float16_segments, int8.worst_cosine
    return described


def _truncation(path: Path, info: VectorSegmentInfo) -> Truncation:
    try:
        return segment_truncation(path, info)
    except Exception as error:  # with a changed byte, the reader may raise any error
        raise unreadable(path, error, f"{path}: torn or unreadable ({error}); delete it and {AGAIN}") from error


def _bytes_under(folder: Path) -> int:
    """Bytes that the files occupy on disk. The engine's files are sparse: their lengths are far larger."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
