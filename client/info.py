"""A summary of a run directory, for `embedfleet info`."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from ..protocol.layout import RunLayout, segments_in
from ..protocol.segments import ChunkSegmentInfo, VectorSegmentInfo, read_info
from ..protocol.spec import Output, RunSpec
from .edge_shard import published_segments
from .run_files import read_object, read_spec

JsonObject = dict[str, Any]


def describe_run(path: str | PathLike[str]) -> JsonObject:
    """What stands in the run directory `path`, as JSON values; only footers are read. Sizes are in bytes.

    RunDirectoryError where there is no run, or a file is torn.
    """
    layout = RunLayout(Path(path))
    spec = read_spec(layout)
    manifest = read_object(layout.manifest)
    return {
        "root": str(layout.root),
        "status": "unfinished" if manifest is None else manifest.get("status", "done"),
        "spec": msgspec.to_builtins(spec),
        "chunks": _chunks(layout),
        "vectors": [_vector(layout, _asked(spec, one), one) for one in spec.outputs],
        "index": {
            "kind": spec.index,
            "published_segments": len(published_segments(layout)),
            "bytes": _bytes_under(layout.edge),
        },
    }


def _chunks(layout: RunLayout) -> JsonObject:
    paths = [layout.chunk_segment(segment) for segment in segments_in(layout.chunks)]
    infos = [read_info(path, ChunkSegmentInfo) for path in paths]
    # Once the source is read, the intake's own count: it has what came after the last chunk too.
    ended = read_object(layout.intake)
    so_far = sum((Counter(info.notes) for info in infos), Counter[str]())
    return {
        "rows": sum(info.rows for info in infos),
        "segments": len(infos),
        "rejected": sum(info.rejected for info in infos),
        "duplicates": sum(info.duplicates for info in infos),
        "notes": dict(so_far) if ended is None else ended.get("notes", {}),
        "intake_done": ended is not None,
        "bytes": sum(path.stat().st_size for path in paths),
    }


def _asked(spec: RunSpec, one: Output) -> str:
    """The model as it was asked for."""
    return next((asked.model for asked in spec.passes if one in asked.outputs), one.kind)


def _vector(layout: RunLayout, model: str, one: Output) -> JsonObject:
    paths = [layout.vector_segment(one.vector, segment) for segment in segments_in(layout.vector_folder(one.vector))]
    infos = [read_info(path, VectorSegmentInfo) for path in paths]
    about = read_object(layout.pass_file(one.vector)) or {}
    return {
        "vector": one.vector,
        "kind": one.kind,
        # of a folder, `pass.json` has the last part alone
        "model": model if Path(model).is_absolute() else about.get("model", model),
        "form": one.form,
        "dim": about.get("output_dim") or None,
        "storage": one.storage if one.form == "dense" else None,
        "dtype": about.get("dtype", "auto"),
        "rows": sum(info.rows for info in infos),
        "quarantined": sum(info.quarantined for info in infos),
        "stood_in": sum(info.stood_in for info in infos),
        "tokens": sum(info.tokens for info in infos),
        "segments": len(infos),
        "bytes": sum(path.stat().st_size for path in paths),
        "fingerprint": about.get("fingerprint"),
    }


def _bytes_under(folder: Path) -> int:
    """What the files take on disk: the engine reserves far more than it writes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
