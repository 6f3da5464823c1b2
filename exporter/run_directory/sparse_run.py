"""The section `sparse_run` of the manifest: for each sparse vector, which rows the model computed and which others stand in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.spec.run_spec import Output, RunSpec


class SparseInferenceRun(msgspec.Struct, frozen=True, kw_only=True):
    """One sparse vector. Rows: `live` + `from_metadata` + `without` are all."""

    vector: str
    kind: str
    model: str
    live: int
    """Computed by the model."""
    from_metadata: int
    """The chunk's own term weights stand in."""
    without: int
    """Neither: quarantined, or, where only the metadata was asked for, a chunk that has no weights."""
    unusable: int
    """Chunks whose metadata was looked at and has weights that cannot be used: a part of theirs, or all."""
    device: str
    dtype: str
    placement: str
    batch_seconds: dict[str, float]
    """`p50`, `p95` and `p99` among others: tokenizing and computing one batch, over all sessions."""


def sparse_runs(layout: RunLayout, spec: RunSpec, stats: Mapping[str, Any]) -> list[SparseInferenceRun]:
    """One for each sparse vector of the run, counted from the segments' footers; `stats` is what stats.json holds."""
    figures = {one["vector"]: one for one in stats.get("passes", [])}
    return [
        _sparse_run(layout, output, one.model, figures.get(one.vector, {}))
        for one in spec.passes
        for output in one.outputs
        if output.form == "sparse"
    ]


def _sparse_run(layout: RunLayout, output: Output, model: str, figures: Mapping[str, Any]) -> SparseInferenceRun:
    segments = segments_in(layout.vector_folder(output.vector))
    infos = [read_info(layout.vector_segment(output.vector, one), VectorSegmentInfo) for one in segments]
    rows, stood_in = sum(info.rows for info in infos), sum(info.stood_in for info in infos)
    without = sum(info.quarantined for info in infos)
    if output.kind == "metadata":
        without = rows - stood_in
    path = layout.pass_file(output.vector)
    about: dict[str, Any] = msgspec.json.decode(path.read_bytes()) if path.exists() else {}
    return SparseInferenceRun(
        vector=output.vector,
        kind=output.kind,
        model=about.get("model") or model,
        live=rows - stood_in - without,
        from_metadata=stood_in,
        without=without,
        unusable=sum(info.unusable for info in infos),
        device=figures.get("device", ""),
        dtype=about.get("dtype", ""),
        placement=figures.get("placement", ""),
        batch_seconds=figures.get("batch_seconds", {}),
    )
