"""The section `sparse_run` of the manifest: for each sparse vector, which rows the model computed and which others stand in."""

from __future__ import annotations

from ...protocol.run_directory.layout import RunLayout, segments_in
from ...protocol.run_directory.records.passes import PassRecord, read_pass
from ...protocol.run_directory.records.sections import SparseInferenceRun
from ...protocol.run_directory.segment_info import VectorSegmentInfo
from ...protocol.run_directory.tables import read_info
from ...protocol.spec.run_spec import Output, RunSpec
from ...protocol.statistics.pass_stats import PassStats
from ...protocol.statistics.run_stats import RunStats


def sparse_runs(layout: RunLayout, spec: RunSpec, stats: RunStats) -> tuple[SparseInferenceRun, ...]:
    """One for each sparse vector of the run, counted from the segments' footers."""
    figures = stats.by_vector()
    return tuple(
        _sparse_run(layout, output, one.model, figures.get(one.vector, PassStats.none(one.vector)))
        for one in spec.passes
        for output in one.outputs
        if output.form == "sparse"
    )


def _sparse_run(layout: RunLayout, output: Output, model: str, figures: PassStats) -> SparseInferenceRun:
    segments = segments_in(layout.vector_folder(output.vector))
    infos = [read_info(layout.vector_segment(output.vector, one), VectorSegmentInfo) for one in segments]
    rows, stood_in = sum(info.rows for info in infos), sum(info.stood_in for info in infos)
    without = sum(info.quarantined for info in infos)
    if output.kind == "metadata":
        without = rows - stood_in
    about = read_pass(layout, output.vector) or PassRecord()
    return SparseInferenceRun(
        vector=output.vector,
        kind=output.kind,
        model=about.model or model,
        live=rows - stood_in - without,
        from_metadata=stood_in,
        without=without,
        unusable=sum(info.unusable for info in infos),
        device=figures.device,
        dtype=about.dtype or "",
        placement=figures.placement,
        batch_seconds=figures.batch_seconds,
    )
